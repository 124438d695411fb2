"""Calls the server with the official Python SDK (`pip install mcp`, version 2).

python examples/python_client.py [IMAGE ["a question"]]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import struct
import sys
import zlib
from pathlib import Path

try:
    from mcp import Client, StdioServerParameters
    from mcp.types import TextContent
except ImportError:
    sys.exit("python_client.py: the official SDK is missing for this Python. Run: pip install 'mcp>=2'")

SERVER = Path(__file__).resolve().parent.parent / "vllm_server.py"


async def ask(image: dict[str, str], question: str) -> int:
    """Asks a question about an image and prints the generated text; returns the exit status."""
    server = StdioServerParameters(command=sys.executable, args=[str(SERVER)])
    parts = [{"type": "image", **image}, {"type": "text", "text": question}]
    arguments = {"messages": [{"role": "user", "content": parts}], "temperature": 0}

    async def show(progress: float, total: float | None, message: str | None) -> None:
        if progress >= 1:  # below 1, the message is a phase of loading the model
            print(message, end="", flush=True)

    async with Client(server) as client:
        result = await client.call_tool("chat_completion", arguments, progress_callback=show)
    print()
    if result.is_error:
        text = next((block.text for block in result.content if isinstance(block, TextContent)), "no reason given")
        print(f"The server reports: {text}", file=sys.stderr)
        return 1
    print(result.structured_content)
    return 0


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Asks the server's model about an image.")
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="an image file (default: a drawing)")
    parser.add_argument("question", nargs="?", default="What is in this image?", help="default: %(default)s")
    given = parser.parse_args()
    if given.image is None:
        image = {"data": base64.b64encode(drawing()).decode(), "mimeType": "image/png"}
    elif given.image.is_file():
        image = {"path": str(given.image.resolve())}
    else:
        parser.error(f"there is no file {given.image}")
    return asyncio.run(ask(image, given.question))


def drawing(side: int = 256) -> bytes:
    """A red square on a blue background, as a PNG file."""
    inside = range(side // 4, side - side // 4)
    rows = ((b"\xff\0\0" if x in inside and y in inside else b"\0\0\xff" for x in range(side)) for y in range(side))
    pixels = b"".join(b"\0" + b"".join(row) for row in rows)
    header = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


if __name__ == "__main__":
    sys.exit(main())
