"""An echo server on the low-level `Server` of mcp 1.x."""

from typing import Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

ECHO = types.Tool(
    name="echo",
    description="Says the text again.",
    inputSchema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


async def list_tools() -> list[Any]:
    """The one tool."""
    return [ECHO]


async def call_tool(name: str, arguments: dict[str, Any]) -> list[Any]:
    """Says the text again."""
    return [types.TextContent(type="text", text=arguments["text"])]


async def serve() -> None:
    """Runs the server on stdin and stdout."""
    server = Server("echo")
    server.list_tools()(list_tools)
    server.call_tool()(call_tool)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


anyio.run(serve)
