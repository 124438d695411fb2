"""An echo server on fastmcp 4.x."""

from fastmcp import FastMCP


def echo(text: str) -> str:
    """Says the text again."""
    return text


server = FastMCP("echo", tools=[echo])
server.run(show_banner=False, log_level="ERROR")
