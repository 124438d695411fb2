"""Uses the server through the official Python SDK (`pip install mcp`, version 2).

python examples/python_client.py PICTURE ["a question"]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters

SERVER = Path(__file__).resolve().parent.parent / "vllm_server.py"


async def main(picture: str, question: str) -> None:
    """Asks one question about one picture and prints the answer as it comes."""
    server = StdioServerParameters(command=sys.executable, args=[str(SERVER)])
    parts = [{"type": "text", "text": question}, {"type": "image", "path": str(Path(picture).resolve())}]
    arguments = {"messages": [{"role": "user", "content": parts}], "temperature": 0}

    async def show(progress: float, total: float | None, message: str | None) -> None:
        if progress >= 1:  # below 1, the message is a phase of loading the model
            print(message, end="", flush=True)

    async with Client(server) as client:
        result = await client.call_tool("chat_completion", arguments, progress_callback=show)
    print()
    print(result.structured_content)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "What is in this image?"))
