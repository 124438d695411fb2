"""What HTTP refuses, and the shares of those who own tokens."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import pytest

from mcp_protocol.http import http_connection, posts, service
from mcp_protocol.resources import subscriptions
from sandbox.budget import ByteBudget
from tests.unit.mcp_protocol.host import WAIT_S
from tests.unit.mcp_protocol.http.conftest import MakeWeb
from tests.unit.mcp_protocol.http.web import Web, code_of
from tests.web_client import CLIENT, call, headers_of, modern, request

pytestmark = pytest.mark.slow

DISCOVER = modern("server/discover")


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


def test_body_that_is_too_long_is_not_read(make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_protocol.stdio.MAX_LINE_BYTES", 1000)
    web = make_web()
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
    web = make_web(tokens=("first", "second"), transport="sse")
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
    monkeypatch.setattr("mcp_protocol.http.sessions.MAX_SESSIONS", 3)
    web = make_web(tokens=("first", "second"))
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
    monkeypatch.setattr(service, "max_connections", lambda: 16)
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
    web = make_web(tokens=("token",), transport="sse")
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
    assert refused["content"][0]["text"].startswith("The server is busy: 2 calls with this token wait, and")
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
    monkeypatch.setattr(http_connection, "LINGER_S", 0.2)
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
