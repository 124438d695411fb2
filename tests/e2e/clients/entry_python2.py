"""Starts the server of an entry on stdin, in the form of Claude Desktop, and prints the names of its tools.

It runs in the environment of the official Python SDK 2.x.
"""

from __future__ import annotations

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters


async def main() -> None:
    """Connects, lists and prints."""
    entry = json.load(sys.stdin)["mcpServers"]["vllm"]
    async with Client(StdioServerParameters(**entry)) as client:
        print(json.dumps([tool.name for tool in (await client.list_tools()).tools]))


if __name__ == "__main__":
    asyncio.run(main())
