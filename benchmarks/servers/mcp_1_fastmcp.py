"""An echo server on the `FastMCP` of mcp 1.x."""

from mcp.server.fastmcp import FastMCP


def echo(text: str) -> str:
    """Says the text again."""
    return text


server = FastMCP("echo", log_level="ERROR")
server.add_tool(echo)
server.run()
