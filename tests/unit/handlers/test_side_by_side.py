"""All tools with several workers: whatever comes in between, each call is answered once and each session in order."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mcp_protocol.connection import Connection
from mcp_protocol.jsonrpc import Notification, Request
from mcp_protocol.server import Server
from settings.server import ServerSettings
from tests.unit.handlers.tool_client import Client, Json, user
from tests.unit.mcp_protocol.host import INFO, RecordingTransport

WAIT_S = 60.0
TOLD = ("model_info", "list_sessions", "get_gpu_status", "list_jobs")


class McpClient:
    """A server with eight workers over a client's tools, and its one client."""

    def __init__(self, client: Client, **options: Any) -> None:
        self.wire = RecordingTransport()
        self.connection = Connection(self.wire)
        self.server = Server(INFO, ServerSettings(max_concurrent=8), lambda: client.toolbox, **options)

    def call(self, request_id: Any, tool: str, **arguments: Any) -> None:
        """Sends a call."""
        params = {"name": tool, "arguments": arguments}
        self.server.handle(Request(request_id, "tools/call", params), self.connection, self.wire)

    def cancel(self, request_id: Any) -> None:
        """Says that a call is no longer wanted."""
        self.server.handle(
            Notification("notifications/cancelled", {"requestId": request_id}), self.connection, self.wire
        )

    def answers(self, n_answers: int) -> dict[Any, Json]:
        """So many answers by their ids, each of which comes once."""
        messages = [json.loads(self.wire.lines.get(timeout=WAIT_S)) for _ in range(n_answers)]
        assert max(Counter(message["id"] for message in messages).values()) == 1
        return {message["id"]: message["result"] for message in messages}


@pytest.mark.parametrize("seed", range(3))
def test_each_call_of_a_mixed_crowd_is_answered_once(make_client: Callable[..., Client], seed: int) -> None:
    rng = random.Random(seed)
    mcp_client = McpClient(make_client())
    turns: Counter[str] = Counter()
    expected: dict[int, int] = {}
    for number in range(400):
        kind = rng.choice(["session"] * 6 + ["chat"] * 2 + ["told"] * 2 + ["batch", "release", "timeout"])
        if kind == "session":
            name = rng.choice("abcdef")
            turns[name] += 1
            expected[number] = 2 * turns[name]
            mcp_client.call(number, "chat_completion", messages=[user(f"{number}")], session_id=name)
        elif kind == "chat":
            mcp_client.call(number, "chat_completion", messages=[user(f"{number}")])
        elif kind == "batch":
            mcp_client.call(number, "chat_completion_batch", conversations=[[user("x")], [user("y")]])
        elif kind == "release":
            mcp_client.call(number, "release_gpu")
        elif kind == "timeout":
            mcp_client.call(number, "update_gpu_timeout", timeout_seconds=number)
        else:
            mcp_client.call(number, rng.choice(TOLD))
    found = mcp_client.answers(400)
    assert not [result for result in found.values() if result["isError"]]
    counted = {number: found[number]["structuredContent"]["session_messages"] for number in expected}
    assert counted == {number: min(50, n_messages) for number, n_messages in expected.items()}


def test_cancelled_calls_among_many_are_never_answered(make_client: Callable[..., Client]) -> None:
    client = make_client()
    mcp_client = McpClient(client)
    for number in range(200):
        client.engine.enqueue(delay_s=0.01)
        mcp_client.call(number, "chat_completion", messages=[user(f"{number}")], session_id=f"{number % 20}")
    for number in range(199, 0, -2):
        mcp_client.cancel(number)
    mcp_client.call("last", "release_gpu")
    answered: list[Any] = []
    while "last" not in answered:
        answered += mcp_client.answers(1)
    assert set(answered) >= set(range(0, 200, 2))
    assert len(answered) == len(set(answered))
    created = [session.created for session in client.services.sessions.list()]
    assert created == sorted(created)
