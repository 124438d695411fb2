"""One session of the official Python SDK 1.x with the server, run in the SDK's own environment.

    python -m tests.e2e.clients.sdk1 MODE PYTHON SERVER PICTURE_PATH
    python -m tests.e2e.clients.sdk1 MODE TRANSPORT URL PICTURE_PATH

Takes the server's environment variables as JSON on stdin, or over HTTP (TRANSPORT is http or sse) headers. Prints one
JSON object with what happened; the test judges it. The mode is not looked at: this SDK has one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import (
    CancelledNotification,
    CancelledNotificationParams,
    ClientNotification,
    ProgressNotification,
    ServerNotification,
)

from tests.e2e.clients import steps


async def main(command: list[str], image: str) -> dict[str, Any]:
    """Connects and does the steps."""
    tokens: list[Any] = []

    async def on_message(message: Any) -> None:
        if isinstance(message, ServerNotification) and isinstance(message.root, ProgressNotification):
            tokens.append(message.root.params.progressToken)

    async with (
        streams_to(command[0], command[1], json.load(sys.stdin)) as (read, write, *_),
        ClientSession(read, write, message_handler=on_message) as session,
    ):
        settled = await session.initialize()

        async def tell_given_up() -> None:
            """Says what this SDK keeps to itself; its progress tokens are the ids of the requests."""
            given_up = CancelledNotification(params=CancelledNotificationParams(requestId=tokens[-1]))
            await session.send_notification(ClientNotification(given_up))

        @asynccontextmanager
        async def subscribe(uri: Any) -> AsyncIterator[None]:
            await session.subscribe_resource(uri)
            yield
            await session.unsubscribe_resource(uri)

        return await steps.use(
            session,
            version=str(settled.protocolVersion),
            capabilities=settled.capabilities,
            image=image,
            subscribe=subscribe,
            tell_given_up=tell_given_up,
        )


def streams_to(transport: str, address: str, values: dict[str, str]) -> AbstractAsyncContextManager[Any]:
    """The streams to a server that is started now, or to one over HTTP."""
    if transport == "http":
        client = httpx.AsyncClient(headers=values, timeout=httpx.Timeout(30, read=240))
        return streamable_http_client(address, http_client=client)
    if transport == "sse":
        return sse_client(address, headers=values)
    return stdio_client(StdioServerParameters(command=transport, args=[address], env=values))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main([sys.argv[2], sys.argv[3]], sys.argv[4]))))
