"""What the tests of the chat tools share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from handlers.tool_table import TOOLS
from mcp_protocol.jsonrpc import encode
from tests.unit.handlers.tool_client import Client, Json

MakeClient = Callable[..., Client]


FORMS = ["path", "base64", "data URL", "file URL"]


OUTPUT_SCHEMAS: dict[str, Json] = {tool.name: tool.listing().get("outputSchema", {}) for tool in TOOLS}


def structured(result: Json) -> Any:
    """The `structuredContent` as a client reads it."""
    return json.loads(encode(result["structuredContent"]))
