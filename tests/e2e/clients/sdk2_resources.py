"""What the official Python SDK 2.x makes of the server's resources and prompts, run in the SDK's own environment.

    python sdk2_resources.py MODE PYTHON SERVER, with the server's environment variables as JSON on stdin

Prints one JSON object with what happened; the test judges it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp_types import PromptReference, ResourceTemplateReference

WAIT_S = 120


async def main(mode: str, command: list[str]) -> dict[str, Any]:
    told: list[str] = []
    changed = anyio.Event()

    async def on_message(message: Any) -> None:
        told.append(type(message).__name__)
        if "ResourceUpdated" in told[-1]:
            changed.set()

    hello = {"messages": [{"role": "user", "content": "Hello"}], "session_id": "sdk", "max_tokens": 5}
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=json.load(sys.stdin))
    client: Any
    async with Client(parameters, mode=mode, message_handler=on_message) as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        read = [(await client.read_resource(resource.uri)).contents[0] for resource in resources]
        prompts = (await client.list_prompts()).prompts
        prompt = await client.get_prompt("describe_picture", {"picture": "/a.png"})
        languages = await client.complete(
            PromptReference(name="describe_picture"), {"name": "language", "value": "ger"}
        )
        models = await client.complete(
            ResourceTemplateReference(uri="vllm://models/{model}"), {"name": "model", "value": ""}
        )
        with anyio.fail_after(WAIT_S):
            if client.protocol_version == "2026-07-28":
                async with client.listen(resources_list_changed=True) as events:
                    await client.call_tool("chat_completion", hello)
                    told.append(type(await anext(aiter(events))).__name__)
            else:
                await client.subscribe_resource("vllm://sessions/sdk")
                await client.call_tool("chat_completion", hello)
                await changed.wait()
                await client.unsubscribe_resource("vllm://sessions/sdk")
        session = await client.read_resource("vllm://sessions/sdk")
        try:
            await client.read_resource("vllm://nothing")
            missing = None
        except Exception as error:
            missing = str(error)
        return {
            "protocol_version": client.protocol_version,
            "resources": [str(resource.uri) for resource in resources],
            "templates": [template.uri_template for template in templates],
            "read": [type(contents).__name__ for contents in read],
            "prompts": [row.name for row in prompts],
            "prompt": prompt.messages[0].content.text,
            "languages": languages.completion.values,
            "models": models.completion.values,
            "told": told,
            "session": json.loads(session.contents[0].text),
            "missing": missing,
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], [sys.argv[2], sys.argv[3]]))))
