"""Sessions of the legacy revisions, over both transports."""

from __future__ import annotations

import json
from urllib.parse import urljoin

import pytest

from tests.mcp_results import Json, check_notification, check_result
from tests.unit.mcp_protocol.host import WAIT_S
from tests.unit.mcp_protocol.http.conftest import MakeWeb
from tests.unit.mcp_protocol.http.web import Web, code_of
from tests.web_client import BOTH, CLIENT, call, request

pytestmark = pytest.mark.slow

ONE = "test://texts/one"


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


def test_too_many_sessions_are_refused_while_all_are_in_use(make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_protocol.http.sessions.MAX_SESSIONS", 1)
    web = make_web()
    running = web.in_background(call("wait"), web.initialize())
    assert web.gates.running.wait(WAIT_S)
    assert web.post(request("initialize", {"protocolVersion": "2025-11-25", **CLIENT})).status_code == 503
    web.gates.go_on.set()
    assert running.response().status_code == 200
    web.initialize()


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
    web = make_web(transport="sse")
    with web.http.stream("GET", path, headers={"accept": "text/event-stream"}) as response:
        data = next(line for line in response.iter_lines() if line.startswith("data: "))
    assert urljoin(asked, data.removeprefix("data: ")).partition("?session_id=")[0] == expected


def test_older_transport_answers_in_its_stream(make_web: MakeWeb) -> None:
    web = make_web(transport="sse")
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
