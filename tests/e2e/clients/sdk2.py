"""One session of the official Python SDK 2.x with the server, run in the SDK's own environment.

    python -m tests.e2e.clients.sdk2 MODE PYTHON SERVER PICTURE_PATH

Takes the server's environment variables as JSON on stdin. Prints one JSON object with what happened; the test
judges it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client, StdioServerParameters

from tests.e2e.clients import steps


async def main(mode: str, command: list[str], picture: str) -> dict[str, Any]:
    """Connects and does the steps."""
    logs: list[str] = []

    async def on_log(message: Any) -> None:
        logs.append(str(message.level))

    parameters = StdioServerParameters(command=command[0], args=command[1:], env=json.load(sys.stdin))
    client: Any
    callbacks: dict[str, Any] = {"logging_callback": on_log}
    async with Client(parameters, mode=mode, **callbacks) as client:
        seen = await steps.use(
            client,
            version=client.protocol_version,
            capabilities=client.server_capabilities,
            picture=picture,
            subscribe=lambda uri: following(client, uri),
        )
    return {**seen, "logs": logs}


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
