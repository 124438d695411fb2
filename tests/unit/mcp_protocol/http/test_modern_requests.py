"""Requests of the modern revision, which stand alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mcp_results import MODERN, check_notification, check_result
from tests.unit.mcp_protocol.host import WAIT_S
from tests.unit.mcp_protocol.http.web import Web, code_of
from tests.web_client import call, headers_of, modern, request

pytestmark = pytest.mark.slow

DISCOVER = modern("server/discover")
ONE = "test://texts/one"


def test_modern_request_stands_alone(web: Web) -> None:
    answer = web.post(DISCOVER, headers_of(DISCOVER))
    check_result("server/discover", MODERN, answer.json())
    assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize(
    ("message", "headers", "expected"),
    [
        (modern("ping"), {}, (404, -32601)),
        (modern("initialize"), {}, (404, -32601)),
        (modern("tools/call", {"name": "nonsense"}), {}, (400, -32602)),
        (DISCOVER, {"mcp-method": "tools/list"}, (400, -32020)),
        (DISCOVER, {"mcp-protocol-version": "2025-11-25"}, (400, -32020)),
        (request("tools/list"), {"mcp-protocol-version": "2026-07-28"}, (400, -32602)),
        (request("tools/list"), {"mcp-protocol-version": "2031-01-01"}, (400, -32022)),
        (request("server/discover"), {}, (400, -32602)),
        (request("server/discover"), {"mcp-protocol-version": "2025-11-25"}, (400, -32602)),
        (request("subscriptions/listen"), {}, (400, -32602)),
        ([DISCOVER], {"mcp-protocol-version": "2026-07-28"}, (400, -32600)),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, {"mcp-protocol-version": "2026-07-28"}, (400, -32600)),
    ],
)
def test_modern_errors_have_their_status(web: Web, message: Any, headers: dict[str, str], expected: Any) -> None:
    if isinstance(message, dict) and "_meta" in message.get("params", {}):
        headers = {**headers_of(message), **headers}
    answer = web.post(message, headers)
    assert code_of(answer) == expected
    if isinstance(message, dict) and "method" in message:
        assert answer.json()["id"] == 1


def test_modern_notification_is_accepted_and_does_nothing(web: Web) -> None:
    message = call("wait", request_id=7)
    message["params"]["_meta"] = DISCOVER["params"]["_meta"]
    running = web.in_background(message, headers_of(message))
    assert web.gates.running.wait(WAIT_S)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    assert web.post(cancel, {"mcp-protocol-version": MODERN}).status_code == 202
    web.gates.go_on.set()
    assert running.response().json()["result"]["content"][0]["text"] == "waited"


def test_leaving_cancels_a_modern_request(web: Web) -> None:
    message = modern("tools/call", {"name": "wait"})
    web.leave_while_it_runs(message, headers_of(message))
    assert web.gates.ended.wait(WAIT_S)


def test_subscription_is_a_stream_that_lasts_until_the_client_leaves(web: Web) -> None:
    message = modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": [ONE]}})
    with web.stream(message, headers_of(message)) as events:
        check_notification("notifications/subscriptions/acknowledged", MODERN, events.next())
        web.shelf.texts["one"] = "2"
        echo = modern("tools/call", {"name": "echo", "arguments": {"text": "x"}})
        web.post(echo, headers_of(echo))
        check_notification("notifications/resources/updated", MODERN, events.next())
    assert web.post(message, {**headers_of(message), "accept": "application/json"}).status_code == 406


def test_subscription_is_answered_when_the_server_ends(web: Web) -> None:
    message = modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": [ONE]}})
    with web.stream(message, headers_of(message)) as events:
        events.next()
        web.server.end_subscriptions()
        check_result("subscriptions/listen", MODERN, events.next())
        assert list(events) == []


def test_there_is_no_modern_stream_to_get(web: Web) -> None:
    answer = web.http.get("/mcp", headers={"accept": "text/event-stream", "mcp-protocol-version": MODERN})
    assert answer.status_code == 405
