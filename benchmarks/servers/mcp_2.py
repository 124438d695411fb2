"""An echo server on the `MCPServer` of mcp 2.x."""

from mcp.server.mcpserver import MCPServer


def echo(text: str) -> str:
    """Says the text again."""
    return text


server = MCPServer("echo", log_level="ERROR")
server.add_tool(echo)
server.run()
