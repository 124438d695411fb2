"""What each message gets, in each revision, from the real process."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.server_process import Json, ServerProcess
from tests.mcp_results import LEGACY, MODERN, REVISIONS, check_result, envelope, text_of


@pytest.mark.parametrize("version", LEGACY)
def test_legacy_revision_is_served_from_handshake_to_call(server: ServerProcess, version: str) -> None:
    assert server.initialize(version)["protocolVersion"] == version
    tools = check_result("tools/list", version, server.request("tools/list"))["tools"]
    assert {"chat_completion", "model_info"} <= {tool["name"] for tool in tools}
    result = check_result("tools/call", version, server.call("model_info"))
    assert result["structuredContent"]["server_state"] == "unloaded"
    check_result("ping", version, server.request("ping"))
    assert server.request("logging/setLevel", {"level": "info"})["result"] == {}


def test_modern_revision_is_served_without_handshake(server: ServerProcess) -> None:
    discovered = check_result("server/discover", MODERN, server.request("server/discover", {"_meta": envelope()}))
    assert sorted(discovered["supportedVersions"]) == sorted(REVISIONS)
    check_result("tools/list", MODERN, server.request("tools/list", {"_meta": envelope()}))
    result = check_result("tools/call", MODERN, server.call("model_info", meta=envelope()))
    assert not result["isError"]


def test_both_eras_are_served_by_one_process(server: ServerProcess) -> None:
    server.initialize("2025-06-18")
    check_result("tools/call", MODERN, server.call("list_sessions", meta=envelope()))
    answer = server.call("list_sessions")
    assert "resultType" not in check_result("tools/call", "2025-06-18", answer)


def test_first_line_may_be_a_call_with_id_0(server: ServerProcess) -> None:
    answer = server.call("list_sessions", request_id=0)
    assert answer["result"]["structuredContent"]["sessions"] == []


def test_batch_is_served_in_its_one_revision(server: ServerProcess) -> None:
    server.initialize("2025-03-26")
    server.send([{"id": 1, "method": "ping"}, {"method": "notifications/x"}, {"id": 2, "method": "ping"}])
    assert [server.read_message()["id"] for _ in range(2)] == [1, 2]
    server.assert_serves()


@pytest.mark.parametrize(
    ("message", "request_id", "code"),
    [
        pytest.param({"id": 0, "method": "ping"}, 0, None, id="id 0"),
        pytest.param({"id": "", "method": "ping"}, "", None, id="empty id"),
        pytest.param({"id": 1.5, "method": "ping"}, 1.5, None, id="fraction"),
        pytest.param({"id": "x" * 100_000, "method": "ping"}, "x" * 100_000, None, id="long id"),
        pytest.param({"id": None, "method": "ping"}, None, None, id="null id"),
        pytest.param({"method": "ping"}, None, None, id="no id"),
        pytest.param({"id": True, "method": "ping"}, None, -32600, id="id true"),
        pytest.param({"id": [], "method": "ping"}, None, -32600, id="id a list"),
        pytest.param({"id": 3}, 3, -32600, id="no method"),
        pytest.param({"id": 3, "method": 5}, 3, -32600, id="method a number"),
        pytest.param({"id": 3, "jsonrpc": "1.0", "method": "ping"}, 3, -32600, id="jsonrpc 1.0"),
        pytest.param({"id": 3, "method": "ping", "params": []}, 3, -32602, id="params a list"),
        pytest.param({"id": 3, "method": "no/such"}, 3, -32601, id="unknown method"),
        pytest.param({"id": 3, "method": "tools/call", "params": {"name": "no"}}, 3, -32602, id="unknown tool"),
        pytest.param({"id": 3, "method": "tools/call"}, 3, -32602, id="call without params"),
        pytest.param({"id": 3, "method": "tools/call", "params": {"name": 1}}, 3, -32602, id="name a number"),
        pytest.param(
            {"id": 3, "method": "tools/call", "params": {"name": "model_info", "arguments": []}},
            3,
            -32602,
            id="arguments a list",
        ),
        pytest.param(
            {"id": 3, "method": "initialize", "params": {"_meta": envelope()}}, 3, -32601, id="modern initialize"
        ),
    ],
)
def test_each_request_gets_one_answer_with_its_id(
    shared_server: ServerProcess, message: Json, request_id: Any, code: int | None
) -> None:
    shared_server.send(message)
    answer = shared_server.read_message()
    assert answer["id"] == request_id
    assert type(answer["id"]) is type(request_id)
    assert answer.get("error", {}).get("code") == code
    shared_server.assert_serves()


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/unknown", "params": [1]},
        {"jsonrpc": "2.0", "id": 7, "method": "notifications/unknown"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
        {"jsonrpc": "2.0", "id": 7, "result": {}},
        {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "no"}},
    ],
)
def test_notifications_and_answers_get_none(shared_server: ServerProcess, message: Json) -> None:
    shared_server.send(message)
    shared_server.assert_serves()


@pytest.mark.parametrize("meta", [5, [], "junk", None, {"progressToken": {}}, {"progressToken": True}])
def test_junk_in_meta_is_no_obstacle(shared_server: ServerProcess, meta: Any) -> None:
    shared_server.send_request("tools/call", {"name": "list_sessions", "_meta": meta}, "m")
    assert shared_server.read_message()["id"] == "m"


def test_headers_that_fluidmcp_puts_among_the_arguments_are_dropped(shared_server: ServerProcess) -> None:
    answer = shared_server.call("model_info", {"headers": {"authorization": "Bearer hush-hush"}})
    assert not answer["result"]["isError"]
    assert "hush-hush" not in str(answer)
    assert "hush-hush" not in shared_server.stderr


def test_unknown_argument_is_named_with_the_nearest_known_one(shared_server: ServerProcess) -> None:
    answer = shared_server.call("get_session", {"sesion_id": "x"})
    assert answer["result"]["isError"]
    assert text_of(answer) == "arguments.sesion_id: there is no such argument. Did you mean session_id?"


def test_same_id_twice_gets_two_answers(shared_server: ServerProcess) -> None:
    for tool in ("model_info", "list_sessions"):
        shared_server.send_call(tool, request_id=2)
    answers = [shared_server.read_answer(2) for _ in range(2)]
    assert ["model_name" in answer["result"]["structuredContent"] for answer in answers] == [True, False]


def test_pipelined_calls_are_answered_in_order(shared_server: ServerProcess) -> None:
    for number in range(10):
        shared_server.send_call(("model_info", "list_sessions")[number % 2], request_id=f"c{number}")
    assert [shared_server.read_message()["id"] for _ in range(10)] == [f"c{number}" for number in range(10)]


@pytest.mark.parametrize("meta", [envelope(), None], ids=["modern", "legacy"])
def test_no_token_no_notifications(shared_server: ServerProcess, meta: Json | None) -> None:
    shared_server.send_call("model_info", request_id="quiet", meta=meta)
    assert shared_server.read_message()["id"] == "quiet"
    shared_server.assert_serves()
