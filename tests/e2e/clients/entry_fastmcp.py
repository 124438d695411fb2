"""Starts the server of a configuration on stdin, in the form of Claude Desktop, and prints the names of its tools.

It runs in the environment of fastmcp, which takes the configuration as it is.
"""

from __future__ import annotations

import asyncio
import json
import sys

from fastmcp import Client


async def main() -> None:
    """Connects, lists and prints."""
    async with Client(json.load(sys.stdin)) as client:
        print(json.dumps([tool.name for tool in await client.list_tools()]))


if __name__ == "__main__":
    asyncio.run(main())
