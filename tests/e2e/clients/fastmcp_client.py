"""One session of fastmcp's client with the server, run in fastmcp's own environment.

    python -m tests.e2e.clients.fastmcp_client MODE PYTHON SERVER PICTURE_PATH

Takes the server's environment variables as JSON on stdin. Prints one JSON object with what happened; the test
judges it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from tests.e2e.clients import steps


def under_the_names_of_the_sdk(client: Any) -> Any:
    """The calls that return what came over the wire, which fastmcp marks with `_mcp`."""

    async def call_tool(name: str, arguments: dict[str, Any], progress_callback: Any = None) -> Any:
        return await client.call_tool_mcp(name, arguments, progress_handler=progress_callback)

    return SimpleNamespace(
        call_tool=call_tool,
        list_tools=client.list_tools_mcp,
        list_resources=client.list_resources_mcp,
        list_resource_templates=client.list_resource_templates_mcp,
        read_resource=client.read_resource_mcp,
        list_prompts=client.list_prompts_mcp,
        get_prompt=client.get_prompt_mcp,
        complete=client.complete_mcp,
    )


@asynccontextmanager
async def not_followed(uri: str) -> AsyncIterator[None]:
    """fastmcp's client has no subscriptions of its own."""
    yield


async def main(mode: str, command: list[str], image: str) -> dict[str, Any]:
    """Connects and does the steps."""
    transport = StdioTransport(command[0], command[1:], env=json.load(sys.stdin), keep_alive=False)
    client: Any
    async with Client(transport, mode=mode) as client:
        return await steps.use(
            under_the_names_of_the_sdk(client),
            version=client.protocol_version,
            capabilities=client.server_capabilities,
            image=image,
            subscribe=not_followed,
        )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], [sys.argv[2], sys.argv[3]], sys.argv[4]))))
