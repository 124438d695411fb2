"""A session of the official Python SDK 2.x whose user is asked, run in the SDK's own environment.

    python -m tests.e2e.clients.asked MODE ACTION PYTHON SERVER TOOL

Takes the server's environment variables and the arguments of two equal calls as JSON on stdin. Answers every question
with ACTION. Prints the messages of the questions, and the text and the error flag of each call.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import ElicitResult


async def main(mode: str, action: Any, command: list[str], tool: str, given: dict[str, Any]) -> dict[str, Any]:
    """Connects and calls the tool twice."""
    questions: list[str] = []

    async def on_question(context: Any, params: Any) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action=action, content={"send": True} if action == "accept" else None)

    server = StdioServerParameters(command=command[0], args=[command[1]], env=given["environment"])
    results = []
    async with Client(server, mode=mode, elicitation_callback=on_question) as client:
        for _ in range(2):
            result = await client.call_tool(tool, given["arguments"])
            text = "".join(block.text for block in result.content if block.type == "text")
            results.append([bool(result.is_error), text])
        version = client.protocol_version
    return {"version": version, "questions": questions, "results": results}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:5], sys.argv[5], json.load(sys.stdin)))))
