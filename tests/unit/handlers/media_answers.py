"""Readers of what tools answer that have no structured content: text with JSON, images and links."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.handlers.tool_client import Client

Json = dict[str, Any]


def blocks(client: Client, tool: str, arguments: Json, **options: Any) -> list[Json]:
    """The content of a call that succeeds without structured content."""
    result = client.run(tool, arguments, **options)
    assert not result["isError"], result
    assert "structuredContent" not in result
    content: list[Json] = result["content"]
    return content


def facts(client: Client, tool: str, arguments: Json, **options: Any) -> Json:
    """The JSON in the text of a call that succeeds without structured content."""
    found: Json = json.loads(blocks(client, tool, arguments, **options)[0]["text"])
    return found
