"""The transport on a real socket: what clients of HTTP see."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from mcp_protocol import subscriptions
from mcp_protocol.http import posts, service, wire
from mcp_protocol.http.options import HttpOptions
from mcp_protocol.http.service import CannotListen, listen
from sandbox.budget import ByteBudget
from tests.mcp_results import MODERN, Json, check_notification, check_result
from tests.unit.mcp_protocol.host import WAIT_S
from tests.unit.mcp_protocol.http.conftest import MakeWeb
from tests.unit.mcp_protocol.http.web import Web
from tests.web_client import BOTH, CLIENT, call, headers_of, modern, request

DISCOVER = modern("server/discover")
ONE = "test://texts/one"


def code_of(response: httpx.Response) -> tuple[int, int]:
    """Status and code of an error."""
    return response.status_code, response.json()["error"]["code"]


# Legacy revisions


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
def test_session_begins_serves_and_ends(web: Web, version: str) -> None:
    session = web.initialize(version)
    listed = web.post(request("tools/list"), session)
    assert check_result("tools/list", version, listed.json())["tools"]
    assert listed.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in listed.headers
    assert web.http.delete("/mcp", headers=session).status_code == 204
    for method in ("POST", "GET", "DELETE"):
        again = web.http.request(method, "/mcp", json=request("ping"), headers={**BOTH, **session})
        assert code_of(again) == (404, -32600)


@pytest.mark.parametrize(
    "session", [{}, {"mcp-session-id": "guess"}, {"mcp-session-id": ""}, {"mcp-session-id": "../x"}]
)
def test_message_without_its_session_is_refused(web: Web, session: dict[str, str]) -> None:
    assert code_of(web.post(request("ping"), session)) == (404 if session else 400, -32600)


def test_errors_of_the_protocol_have_status_200_within_a_session(web: Web) -> None:
    session = web.initialize()
    assert code_of(web.post(request("nonsense"), session)) == (200, -32601)
    assert code_of(web.post(call("nonsense"), session)) == (200, -32602)


def test_progress_comes_as_events_before_the_answer(web: Web) -> None:
    session = web.initialize()
    with web.stream(call("tell", progressToken=0), session) as events:
        first, second, answer = events
    assert check_notification("notifications/progress", "2025-11-25", first)["progressToken"] == 0
    assert second["params"]["progress"] == 3
    assert answer["result"]["content"][0]["text"] == "told"


def test_client_that_takes_json_alone_gets_the_answer_alone(web: Web) -> None:
    session = web.initialize()
    answer = web.post(call("tell", progressToken=0), {**session, "accept": "application/json"})
    assert answer.json()["result"]["content"][0]["text"] == "told"


def test_client_that_takes_events_alone_gets_a_stream(web: Web) -> None:
    session = web.initialize()
    with web.stream(request("tools/list"), {**session, "accept": "text/event-stream"}) as events:
        assert "tools" in events.next()["result"]


def test_clients_share_nothing_but_the_server(web: Web) -> None:
    ours, theirs = web.initialize(), web.initialize("2025-06-18")
    web.post(request("logging/setLevel", {"level": "debug"}), ours)
    running = web.in_background(call("wait", request_id=7), ours)
    assert web.gates.running.wait(WAIT_S)
    waiting = web.in_background(call("echo", {"text": "theirs"}, request_id=7), theirs)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 8}}
    assert web.post(cancel, theirs).status_code == 202
    web.gates.go_on.set()
    assert running.response().json()["result"]["content"][0]["text"] == "waited"
    assert waiting.response().json()["result"]["content"][0]["text"] == "theirs"


def test_cancelled_request_ends_without_an_answer(web: Web) -> None:
    ours, theirs = web.initialize(), web.initialize()
    running = web.in_background(call("wait", request_id=7), ours)
    assert web.gates.running.wait(WAIT_S)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    assert web.post(cancel, theirs).status_code == 202
    assert not web.gates.ended.is_set()
    assert web.post(cancel, ours).status_code == 202
    assert web.gates.ended.wait(WAIT_S)
    assert running.response().text == ""
    assert 'outcome="cancelled"} 1' in web.http.get("/metrics").text


def test_leaving_does_not_cancel_in_a_session_but_ending_it_does(web: Web) -> None:
    session = web.initialize()
    web.leave_while_it_runs(call("wait"), session)
    assert web.post(request("ping"), session).status_code == 200
    assert not web.gates.ended.is_set()
    web.http.delete("/mcp", headers=session)
    assert web.gates.ended.wait(WAIT_S)


def test_changes_are_told_in_the_stream_that_the_client_opened(web: Web) -> None:
    session, other = web.initialize(), web.initialize()
    web.post(request("resources/subscribe", {"uri": ONE}), session)
    web.shelf.texts["one"] = "2"
    web.post(call("echo", {"text": "x"}), other)
    with web.http.stream("GET", "/mcp", headers={"accept": "text/event-stream", **session}) as response:
        lines = response.iter_lines()
        data = next(line for line in lines if line.startswith("data: "))
        params = check_notification("notifications/resources/updated", "2025-11-25", json.loads(data[6:]))
        assert params == {"uri": ONE}
        web.http.delete("/mcp", headers=session)
        assert not any(line for line in lines)


def test_batch_of_the_one_revision_that_has_them(web: Web) -> None:
    batch = [request("ping", request_id=1), {"jsonrpc": "2.0", "method": "notifications/x"}, call("tell", request_id=2)]
    session = web.initialize("2025-03-26")
    with web.stream(batch, session) as events:
        assert {message["id"] for message in events} == {1, 2}
    listed = web.post(batch, {**session, "accept": "application/json"}).json()
    assert {message["id"] for message in listed} == {1, 2}
    assert web.post(batch[1:2], session).status_code == 202
    assert code_of(web.post(batch, web.initialize("2025-11-25"))) == (400, -32600)


def test_too_many_sessions_are_refused_while_all_are_in_use(make_web: MakeWeb) -> None:
    web = make_web(max_sessions=1)
    running = web.in_background(call("wait"), web.initialize())
    assert web.gates.running.wait(WAIT_S)
    assert web.post(request("initialize", {"protocolVersion": "2025-11-25", **CLIENT})).status_code == 503
    web.gates.go_on.set()
    assert running.response().status_code == 200
    web.initialize()


# The modern revision


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


# What HTTP refuses


def test_bad_requests_have_their_status_and_a_reason(web: Web) -> None:
    good: dict[str, Any] = {"content": json.dumps(request("ping")), "headers": {"content-type": "application/json"}}

    def status(method: str = "POST", path: str = "/mcp", **changed: Any) -> int:
        arguments = {**good, **changed}
        arguments["headers"] = {**good["headers"], **changed.get("headers", {})}
        answer = web.http.request(method, path, **arguments)
        assert method == "HEAD" or "message" in answer.json()["error"]
        return answer.status_code

    assert status() == 400
    assert status(headers={"content-type": "text/plain"}) == 415
    assert status(headers={"content-type": "application/jsonp"}) == 415
    assert status(headers={"accept": "image/png"}) == 406
    assert status(content=b"{") == 400
    assert status(content=b"") == 400
    assert status(content=b"\xff") == 400
    assert status(content=b"[" * 100_000) == 400
    assert status("PUT") == 405
    assert status(path="/") == 404
    assert status(path="/mcp/../etc/passwd") == 404
    assert status(path="/sse", method="GET") == 404
    assert status(headers={"host": "evil.example"}) == 403
    assert status(headers={"origin": "https://evil.example"}) == 403


def test_body_that_is_too_long_is_not_read(make_web: MakeWeb) -> None:
    web = make_web(max_body_bytes=1000)
    long = json.dumps(request("ping", {"x": "y" * 2000})).encode()
    headers = {"content-type": "application/json"}

    def pieces() -> Any:
        yield from (long[:900], long[900:])

    for content in (long, pieces()):
        answer = web.http.post("/mcp", content=content, headers=headers)
        assert code_of(answer) == (413, -32600)
    lies = {**headers, "content-length": str(10**30)}
    with socket.create_connection(web.service.address) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in {"host": "localhost", **lies}.items())
        connection.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode())
        assert connection.recv(100).split()[1] in (b"400", b"413")
    web.initialize()


def test_tokens_are_asked_for_everywhere_but_for_health(make_web: MakeWeb) -> None:
    web = make_web(tokens=("first", "second"), sse=True)
    first, second = ({"authorization": f"Bearer {token}"} for token in ("first", "second"))
    for method, path in (
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("GET", "/sse"),
        ("POST", "/messages"),
        ("GET", "/metrics"),
    ):
        answer = web.http.request(method, path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert web.http.get("/nothing").status_code == 401
    assert web.http.get("/health").json() == {"status": "ok"}
    assert web.http.get("/metrics", headers=first).status_code == 200
    session = web.initialize(**first)
    assert web.post(request("ping"), session).status_code == 200
    assert web.post(request("ping"), {**session, **second}).status_code == 404


def test_owner_of_a_token_keeps_nobody_else_out(make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_LISTENS", 5)
    web = make_web(tokens=("first", "second"), max_sessions=3)
    first, second = ({"authorization": f"Bearer {token}"} for token in ("first", "second"))
    session = web.initialize(**first)
    theirs = [web.initialize(**second) for _ in range(6)]
    assert [web.post(request("ping"), headers).status_code for headers in theirs] == [404] * 3 + [200] * 3
    message = modern("subscriptions/listen", {"notifications": {"resourcesListChanged": True}})
    with contextlib.ExitStack() as streams:
        for headers in theirs[3:]:
            headers = {**headers, "accept": "text/event-stream"}
            streams.enter_context(web.http.stream("GET", "/mcp", headers=headers))
        for number in range(5):
            listen = {**message, "id": number}
            streams.enter_context(web.stream(listen, {**headers_of(listen), **second}))
        refused = web.post(request("initialize", {"protocolVersion": "2025-11-25", **CLIENT}), second)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        one_more = {**message, "id": "one more"}
        assert code_of(web.post(one_more, {**headers_of(one_more), **second})) == (400, -32602)
        assert web.post(request("ping"), session).status_code == 200
        with web.stream(one_more, {**headers_of(one_more), **first}) as events:
            events.next()


def test_owner_with_too_many_connections_is_told_so(make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "most_connections", lambda: 16)
    web = make_web(tokens=("first", "second"))
    first, second = ({"authorization": f"Bearer {token}"} for token in ("first", "second"))
    message = modern("subscriptions/listen", {"notifications": {}})
    with contextlib.ExitStack() as streams:
        for number in range(6):
            listen = {**message, "id": number}
            streams.enter_context(web.stream(listen, {**headers_of(listen), **second}))
        refused = web.post(DISCOVER, {**headers_of(DISCOVER), **second})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert "connections" in refused.json()["error"]["message"]
        assert web.post(DISCOVER, {**headers_of(DISCOVER), **first}).status_code == 200
        assert web.http.get("/health").status_code == 200


def test_each_path_has_one_name_but_for_a_slash_that_hosts_write(make_web: MakeWeb) -> None:
    web = make_web(tokens=("token",), sse=True)
    headers = {"authorization": "Bearer token", "content-type": "application/json"}

    def status(method: str, path: str) -> int:
        with socket.create_connection(web.service.address, WAIT_S) as connection:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Length: 0", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return int(connection.recv(1000).split()[1])

    for method, path, expected in (("GET", "health", 200), ("POST", "mcp", 400), ("POST", "messages", 404)):
        assert status(method, f"/{path}") == status(method, f"/{path}/") == status(method, f"/{path}/?x=1") == expected
    assert (status("GET", "/metrics"), status("GET", "/metrics?x=/")) == (200, 200)
    for form in (
        "/metrics/",
        "//metrics",
        "/METRICS",
        "/%6detrics",
        "/metrics%2f",
        "/metrics%00",
        "/metrics;x",
        "/./metrics",
        "/x/../metrics",
        "/metrics//",
        "/metrics/.",
        "/health//",
        "//health",
        "/Health",
        "/%68ealth",
        "/mcp//",
        "//mcp",
        "/MCP",
        "/mc%70",
        "/sse//",
        "/",
        "//",
    ):
        assert status("GET", form) == 404, form
    counted = [text for text in web.http.get("/metrics", headers=headers).text.splitlines() if "http_requests" in text]
    paths = {text.partition('path="')[2].partition('"')[0] for text in counted if "path=" in text}
    assert paths == {"/health", "/mcp", "/messages", "/metrics", "other"}
    headers.pop("authorization")
    assert [status("GET", path) for path in ("//metrics", "/metrics/", "/mcp/", "/health/")] == [401, 401, 401, 200]


def test_bodies_that_are_not_complete_count_in_one_budget(make_web: MakeWeb) -> None:
    budget = ByteBudget(300_000)
    web = make_web(budget=budget)
    session = web.initialize()
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 250000\r\n\r\n"
    with socket.create_connection(web.service.address, WAIT_S) as unfinished:
        unfinished.sendall(head + b" " * 200_000)
        until_s = time.monotonic() + WAIT_S
        while budget.held_bytes < 200_000 and time.monotonic() < until_s:
            time.sleep(0.01)
        busy = web.post(request("ping", {"x": "y" * 150_000}), session)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
        assert "VLLM_MAX_HELD_BYTES" in busy.json()["error"]["message"]
        assert web.post(request("ping"), session).status_code == 200
    while budget.held_bytes and time.monotonic() < until_s:
        time.sleep(0.01)
    assert web.post(request("ping", {"x": "y" * 250_000}), session).status_code == 200
    never = web.post(request("ping", {"x": "y" * 350_000}), session)
    assert code_of(never) == (413, -32600)
    assert "VLLM_MAX_HELD_BYTES" in never.json()["error"]["message"]
    assert budget.held_bytes == 0


def test_unfinished_bodies_of_one_owner_leave_room_for_others(make_web: MakeWeb) -> None:
    budget = ByteBudget(400_000)
    web = make_web(tokens=("first", "second"), budget=budget)
    first, second = ({"authorization": f"Bearer {token}"} for token in ("first", "second"))
    long = modern("server/discover", {"x": "y" * 150_000})
    head = (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer second\r\n"
    )
    with socket.create_connection(web.service.address, WAIT_S) as unfinished:
        unfinished.sendall(head + b"Content-Length: 200000\r\n\r\n" + b" " * 190_000)
        until_s = time.monotonic() + WAIT_S
        while budget.held_bytes < 190_000 and time.monotonic() < until_s:
            time.sleep(0.01)
        assert web.post(long, {**headers_of(long), **second}).status_code == 503
        assert web.post(long, {**headers_of(long), **first}).status_code == 200


def test_waiting_calls_of_one_owner_leave_room_for_others(make_web: MakeWeb) -> None:
    web = make_web(tokens=("first", "second"), max_queue=4)
    first, second = (web.initialize(authorization=f"Bearer {token}") for token in ("first", "second"))
    running = web.in_background(call("wait"), second)
    assert web.gates.running.wait(WAIT_S)
    waiting = [web.in_background(call("echo", {"text": "second"}, request_id=number), second) for number in range(2)]
    until_s = time.monotonic() + WAIT_S
    while web.server.queue.n_waiting < 2 and time.monotonic() < until_s:
        time.sleep(0.01)
    refused = web.post(call("echo", {"text": "one more"}), second).json()["result"]
    assert refused["isError"]
    assert refused["content"][0]["text"].startswith("The server is busy: 2 calls wait that came with this token, and")
    others = [web.in_background(call("echo", {"text": "first"}, request_id=number), first) for number in range(2)]
    web.gates.go_on.set()
    texts = [job.response().json()["result"]["content"][0]["text"] for job in (running, *waiting, *others)]
    assert texts == ["waited", "second", "second", "first", "first"]


def test_bytes_of_waiting_calls_of_one_owner_leave_room_for_others(make_web: MakeWeb) -> None:
    web = make_web(tokens=("first", "second"), budget=ByteBudget(1_000_000))
    first, second = (web.initialize(authorization=f"Bearer {token}") for token in ("first", "second"))
    running = web.in_background(call("wait"), second)
    assert web.gates.running.wait(WAIT_S)
    long = call("echo", {"text": "y" * 200_000})
    waiting = [web.in_background(long, second)]
    until_s = time.monotonic() + WAIT_S
    while web.server.queue.n_waiting < 1 and time.monotonic() < until_s:
        time.sleep(0.01)
    refused = web.post(call("echo", {"text": "y" * 350_000}), second)
    assert refused.status_code == 503
    assert "VLLM_MAX_HELD_BYTES" in refused.json()["error"]["message"]
    waiting.append(web.in_background(long, first))
    web.gates.go_on.set()
    assert running.response().json()["result"]["content"][0]["text"] == "waited"
    assert [len(job.response().json()["result"]["content"][0]["text"]) for job in waiting] == [200_000] * 2


def test_body_has_its_time(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "BODY_S", 0.2)
    monkeypatch.setattr(wire, "LINGER_S", 0.2)
    with socket.create_connection(web.service.address, WAIT_S) as slow:
        slow.sendall(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        since_s = time.monotonic()
        answer = b""
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < since_s + WAIT_S:
                slow.sendall(b"1;x=y\r\n \r\n")
                slow.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    data = slow.recv(1000)
                    if not data:
                        break
                    answer += data
        assert answer.split()[1] == b"408"
        assert time.monotonic() - since_s < WAIT_S / 2


def test_page_that_may_call_is_told_so(make_web: MakeWeb) -> None:
    web = make_web(allowed_origins=("https://app.example",), tokens=("token",))
    asked = web.http.options("/mcp", headers={"origin": "https://app.example", "access-control-request-method": "POST"})
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    evil = web.http.options("/mcp", headers={"origin": "https://evil.example"})
    assert (evil.status_code, evil.headers.get("access-control-allow-origin")) == (403, None)


def test_defect_of_ours_tells_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.server, "handle", lambda *arguments: 1 / 0)
    answer = web.post(DISCOVER, headers_of(DISCOVER))
    assert (answer.status_code, answer.json()["error"]) == (500, {"code": -32603, "message": "Internal error"})


# The older transport


@pytest.mark.parametrize(
    ("asked", "path", "expected"),
    [
        ("http://localhost/sse", "/sse", "http://localhost/messages"),
        ("http://localhost/sse/", "/sse/", "http://localhost/messages"),
        ("https://host.example/vllm/sse", "/sse", "https://host.example/vllm/messages"),
        ("https://host.example/a/b/sse/?x=1", "/sse/?x=1", "https://host.example/a/b/messages"),
    ],
)
def test_address_for_messages_is_beside_that_of_the_stream(
    make_web: MakeWeb, asked: str, path: str, expected: str
) -> None:
    """A proxy may have put all of it below a path that the server does not know."""
    web = make_web(sse=True)
    with web.http.stream("GET", path, headers={"accept": "text/event-stream"}) as response:
        data = next(line for line in response.iter_lines() if line.startswith("data: "))
    assert urljoin(asked, data.removeprefix("data: ")).partition("?session_id=")[0] == expected


def test_older_transport_answers_in_its_stream(make_web: MakeWeb) -> None:
    web = make_web(sse=True)
    with web.http.stream("GET", "/sse", headers={"accept": "text/event-stream"}) as response:
        lines = (line for line in response.iter_lines() if line)
        assert next(lines) == "event: endpoint"
        path = urljoin("/sse", next(lines).removeprefix("data: "))

        def send(message: Json) -> None:
            assert web.http.post(path, json=message).status_code == 202

        def read() -> Json:
            assert next(lines) == "event: message"
            message: Json = json.loads(next(lines).removeprefix("data: "))
            return message

        send(request("initialize", {"protocolVersion": "2024-11-05", **CLIENT}))
        assert read()["result"]["protocolVersion"] == "2024-11-05"
        send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        send(call("tell", progressToken="t", request_id="a"))
        assert [read().get("id") for _ in range(3)] == [None, None, "a"]
        send(call("wait"))
        assert web.gates.running.wait(WAIT_S)
    assert web.gates.ended.wait(WAIT_S)
    assert web.http.post(path, json=request("ping")).status_code == 404
    assert web.http.post("/messages", json=request("ping")).status_code == 404


# Listening


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_listening_beyond_this_machine_without_a_token(host: str) -> None:
    with pytest.raises(CannotListen, match="VLLM_HTTP_TOKENS"):
        listen(HttpOptions(host=host, port=0))
    listen(HttpOptions(host="0.0.0.0", port=0, tokens=("token",))).close()


def test_address_that_cannot_be_had_is_named(web: Web) -> None:
    with pytest.raises(CannotListen, match=f"127.0.0.1:{web.service.address[1]}"):
        listen(HttpOptions(port=web.service.address[1]))
    for host in ("no.such.host.invalid", "", "256.1.1.1"):
        with pytest.raises(CannotListen):
            listen(HttpOptions(host=host, port=0))
