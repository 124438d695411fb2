"""One session of the official Python SDK 2.x with the server, run in the SDK's own environment.

    python sdk2.py MODE SERVER PICTURE_PATH, with the server's environment variables as JSON on stdin

Prints one JSON object with what happened; the test judges it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters


async def main(mode: str, command: list[str], picture: str) -> dict[str, Any]:
    pieces: list[str] = []
    logs: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        if progress >= 1:
            pieces.append(message or "")

    async def on_log(message: Any) -> None:
        logs.append(str(message.level))

    def asked(*content: Any, **arguments: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": list(content)}], "temperature": 0, **arguments}

    def text(words: str) -> dict[str, str]:
        return {"type": "text", "text": words}

    parameters = StdioServerParameters(command=command[0], args=command[1:], env=json.load(sys.stdin))
    client: Any
    callbacks: dict[str, Any] = {"logging_callback": on_log}
    async with Client(parameters, mode=mode, **callbacks) as client:
        tools = (await client.list_tools()).tools
        what = asked(text("What is in this image?"), {"type": "image", "path": picture})
        described = await client.call_tool("chat_completion", what, progress_callback=on_progress)
        await client.call_tool("chat_completion", asked(text("My name is Marlowe."), session_id="sdk"))
        recalled = await client.call_tool("chat_completion", asked(text("What is my name?"), session_id="sdk"))
        refused = await client.call_tool("chat_completion", asked(text("Hello"), top_p=7))
        endless = asked(text("Hello"), max_tokens=2000, min_tokens=2000, ignore_eos=True)
        with anyio.move_on_after(0.5) as scope:
            await client.call_tool("chat_completion", endless)
        after = await client.call_tool("model_info", {})
        return {
            "protocol_version": client.protocol_version,
            "tools": [tool.name for tool in tools],
            "described": described.structured_content,
            "text": described.content[0].text,
            "pieces": pieces,
            "recalled": recalled.structured_content["text"],
            "refused": [refused.is_error, refused.content[0].text],
            "cancelled": scope.cancelled_caught,
            "after_cancel": after.structured_content["server_state"],
            "logs": logs,
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], [sys.argv[2], sys.argv[3]], sys.argv[4]))))
