"""One session of the official Python SDK 2.x with the server, run in the SDK's own environment.

    python -m tests.e2e.clients.sdk2 MODE PYTHON SERVER PICTURE_PATH
    python -m tests.e2e.clients.sdk2 MODE TRANSPORT URL PICTURE_PATH

Takes the server's environment variables as JSON on stdin, or over HTTP (TRANSPORT is http or sse) headers. Prints one
JSON object with what happened; the test judges it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.clients import steps


async def main(mode: str, command: list[str], image: str) -> dict[str, Any]:
    """Connects and does the steps."""
    logs: list[str] = []

    async def on_log(message: Any) -> None:
        logs.append(str(message.level))

    client: Any
    callbacks: dict[str, Any] = {"logging_callback": on_log}
    async with Client(server_at(command[0], command[1], json.load(sys.stdin)), mode=mode, **callbacks) as client:
        seen = await steps.use(
            client,
            version=client.protocol_version,
            capabilities=client.server_capabilities,
            image=image,
            subscribe=lambda uri: following(client, uri),
        )
    return {**seen, "logs": logs}


def server_at(transport: str, address: str, values: dict[str, str]) -> Any:
    """What the client takes for a server: one that it starts, or one over HTTP."""
    if transport == "http":
        timeout = httpx2.Timeout(30, read=240)
        return streamable_http_client(address, http_client=httpx2.AsyncClient(headers=values, timeout=timeout))
    if transport == "sse":
        return sse_client(address, headers=values)
    return StdioServerParameters(command=transport, args=[address], env=values)


@asynccontextmanager
async def following(client: Any, uri: str) -> AsyncIterator[None]:
    """Follows a resource in the way of the era."""
    if client.protocol_version >= "2026":
        async with client.listen(resource_subscriptions=[uri]) as subscription:
            assert list(subscription.honored.resource_subscriptions) == [uri], subscription.honored
            yield
    else:
        await client.subscribe_resource(uri)
        yield
        await client.unsubscribe_resource(uri)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], [sys.argv[2], sys.argv[3]], sys.argv[4]))))
