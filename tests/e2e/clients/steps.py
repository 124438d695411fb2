"""What every Python client does with the server: one session through all of it, as the test judges it.

The clients differ in how they connect; their calls have the official SDK's names. Results are taken as they came over
the wire, since the names of their fields differ from client to client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
from mcp.types import PromptReference

Json = dict[str, Any]


async def nothing_more() -> None:
    """For clients that tell the server by themselves when a call is given up."""


async def use(
    client: Any,
    *,
    version: str,
    capabilities: Any,
    image: str,
    subscribe: Callable[[str], AbstractAsyncContextManager[Any]],
    tell_given_up: Callable[[], Awaitable[None]] = nothing_more,
) -> Json:
    """Uses every part of the server that it declares.

    Arguments: a connected client; the revision it settled on; what the server declared; an image's absolute path;
    how this client follows a resource; what it has to do itself to cancel a call that it no longer waits for.
    """
    pieces: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        if progress >= 1:  # below 1, the message is a phase of loading the model
            pieces.append(message or "")

    tools = wire(await client.list_tools())["tools"]
    what = asked({"type": "text", "text": "What is in this image?"}, {"type": "image", "path": image})
    described = wire(await client.call_tool("chat_completion", what, progress_callback=on_progress))
    await client.call_tool("chat_completion", said("My name is Marlowe.", session_id="client"))
    recalled = wire(await client.call_tool("chat_completion", said("What is my name?", session_id="client")))
    refused = wire(await client.call_tool("chat_completion", said("Hello", top_p=7)))
    cancelled = await give_up_a_call(client)
    await tell_given_up()
    afterwards = wire(await client.call_tool("chat_completion", said("Hello")))
    info = wire(await client.call_tool("model_info", {}))
    declared = wire(capabilities)
    return {
        "protocol_version": version,
        "capabilities": declared,
        "tools": [tool["name"] for tool in tools],
        "described": described["structuredContent"],
        "text": described["content"][0]["text"],
        "pieces": pieces,
        "recalled": recalled["structuredContent"]["text"],
        "refused": [refused["isError"], refused["content"][0]["text"]],
        "cancelled": cancelled,
        "after_cancel": afterwards["structuredContent"],
        "state": info["structuredContent"]["server_state"],
        "resources": await follow_resources(client, declared, subscribe) if "resources" in declared else None,
        "prompts": await ask_for_prompts(client, declared, image) if "prompts" in declared else None,
    }


async def give_up_a_call(client: Any) -> bool:
    """Cancels a long generation while it runs; whether the call ended by that."""
    pieces = 0
    with anyio.CancelScope() as scope:

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            nonlocal pieces
            pieces += progress >= 1
            if pieces == 2:
                scope.cancel()

        endless = said("Hello", max_tokens=2000, min_tokens=2000, ignore_eos=True)
        await client.call_tool("chat_completion", endless, progress_callback=on_progress)
    return scope.cancelled_caught


async def follow_resources(
    client: Any, declared: Json, subscribe: Callable[[str], AbstractAsyncContextManager[Any]]
) -> Json:
    """Lists the resources and reads the first; follows it where the server offers that."""
    uris = [resource["uri"] for resource in wire(await client.list_resources())["resources"]]
    templates = wire(await client.list_resource_templates())["resourceTemplates"]
    if declared["resources"].get("subscribe"):
        async with subscribe(uris[0]):
            contents = wire(await client.read_resource(uris[0]))["contents"]
    else:
        contents = wire(await client.read_resource(uris[0]))["contents"]
    return {
        "uris": uris,
        "templates": [template["uriTemplate"] for template in templates],
        "read": [[content["uri"], len(content.get("text") or content["blob"])] for content in contents],
    }


async def ask_for_prompts(client: Any, declared: Json, image: str) -> Json:
    """Lists the prompts and fills in the first with an image; completes its first argument where that is offered."""
    prompts = wire(await client.list_prompts())["prompts"]
    name, arguments = prompts[0]["name"], prompts[0]["arguments"]
    given = {argument["name"]: image for argument in arguments if argument.get("required")}
    messages = wire(await client.get_prompt(name, given))["messages"]
    seen = {"names": [prompt["name"] for prompt in prompts], "text": messages[0]["content"]["text"]}
    if "completions" in declared:
        reference = PromptReference(type="ref/prompt", name=name)
        typed = {"name": arguments[0]["name"], "value": image[:-1]}
        seen["completed"] = wire(await client.complete(reference, typed))["completion"]["values"]
    return seen


def said(words: str, **arguments: Any) -> Json:
    """The arguments for one message of text."""
    return asked({"type": "text", "text": words}, **arguments)


def asked(*content: Json, **arguments: Any) -> Json:
    """The arguments for one message of these parts."""
    return {"messages": [{"role": "user", "content": list(content)}], "temperature": 0, **arguments}


def wire(result: Any) -> Json:
    """A result under the protocol's own names."""
    shown: Json = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return shown
