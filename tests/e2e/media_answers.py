"""Readers of what tools answer: JSON with a preview and a link, as those that make images and videos, or an error."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]


def content(server: ServerProcess, tool: str, arguments: Json) -> list[Json]:
    """The content of a call that succeeds."""
    answer = server.call(tool, arguments)
    assert not answer["result"]["isError"], answer
    assert "structuredContent" not in answer["result"]
    found: list[Json] = answer["result"]["content"]
    return found


def facts(server: ServerProcess, tool: str, arguments: Json) -> Json:
    """The JSON in the text of a call that succeeds."""
    found: Json = json.loads(content(server, tool, arguments)[0]["text"])
    return found


def error(server: ServerProcess, tool: str, arguments: Json) -> str:
    """The text of a call that fails."""
    answer = server.call(tool, arguments)
    assert answer["result"]["isError"], answer
    return str(answer["result"]["content"][0]["text"])
