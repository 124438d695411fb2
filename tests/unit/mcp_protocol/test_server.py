from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_protocol.jsonrpc import INTERNAL_ERROR
from mcp_protocol.stdio import LineTooLong
from mcp_protocol.work_queue import Task
from tests.mcp_results import LEGACY, MODERN, REVISIONS, Json, check_result, envelope, text_of
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import NO_ID, THROWN, WAIT_S, Host, modern

ONE_OF_EACH: list[tuple[str, Json]] = [
    ("ping", {}),
    ("tools/call", {"name": "echo", "arguments": {"text": "x"}}),
    ("no/such", {}),
]
IDS = [0, "", -1, 1.5, 2**70, "a" * 10_000, "1", "\u2028é", None]


def error_of(answer: Json) -> tuple[int, str]:
    """Code and message of an error."""
    assert "result" not in answer
    return answer["error"]["code"], answer["error"]["message"]


# Handshake and discovery


@pytest.mark.parametrize("version", LEGACY)
def test_initialize_agrees_on_each_legacy_version(host: Host, version: str) -> None:
    result = host.initialize(version)
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["name"] == "test-server"
    assert result["capabilities"] == {"tools": {"listChanged": False}, "logging": {}}


@pytest.mark.parametrize("params", [{}, None, {"protocolVersion": None}, {"protocolVersion": MODERN}])
def test_initialize_never_fails_over_the_version(host: Host, params: Any) -> None:
    assert host.request("initialize", params)["result"]["protocolVersion"] == "2025-11-25"


def test_initialize_may_be_repeated_with_another_version(host: Host) -> None:
    assert host.initialize("2025-06-18")["protocolVersion"] == "2025-06-18"
    assert host.initialize("2024-11-05")["protocolVersion"] == "2024-11-05"


def test_discovery_names_all_five_versions_in_the_modern_era(host: Host) -> None:
    result = check_result("server/discover", MODERN, host.request("server/discover", modern()))
    assert sorted(result["supportedVersions"]) == sorted(REVISIONS)
    assert result["instructions"] == "Use it in tests."
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["version"] == "1.2.3"


def test_ping_is_exactly_an_empty_object_before_and_after_initialize(host: Host) -> None:
    assert host.request("ping") == {"jsonrpc": "2.0", "id": 1, "result": {}}
    host.initialize()
    assert host.request("ping", {"_meta": {"progressToken": 1}})["result"] == {}


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel"])
def test_methods_that_the_modern_era_removed_are_unknown_there(host: Host, method: str) -> None:
    assert error_of(host.request(method, modern()))[0] == -32601


@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen"])
def test_modern_method_without_its_envelope_is_told_what_is_missing(host: Host, method: str) -> None:
    without: tuple[Json, ...] = ({}, {"_meta": {}}, {"_meta": 5}, {"notifications": {}})
    for params in without:
        code, message = error_of(host.request(method, params))
        assert code == -32602
        assert "io.modelcontextprotocol/protocolVersion" in message
    host.initialize()
    assert error_of(host.request(method, {}))[0] == -32601
    host.initialize()


@pytest.mark.parametrize("method", ["resources/list", "prompts/list", "completion/complete", "tasks/list", "x", ""])
@pytest.mark.parametrize("params", [{}, modern()], ids=["legacy", "modern"])
def test_unknown_request_is_an_error(host: Host, method: str, params: Json) -> None:
    assert error_of(host.request(method, params)) == (-32601, f"Method not found: {method}")


def test_unknown_method_is_echoed_only_in_part(host: Host) -> None:
    assert len(error_of(host.request("x" * 100_000))[1]) < 300


@pytest.mark.parametrize(
    "method", ["notifications/initialized", "notifications/unknown", "notifications/", "notifications/cancelled"]
)
@pytest.mark.parametrize("params", [None, {}, [], "x", modern()])
def test_notifications_are_never_answered(host: Host, method: str, params: Any) -> None:
    host.notify(method, params)
    host.send(method, params, request_id=5)
    host.assert_silent()


@pytest.mark.parametrize(
    "line", [b'{"jsonrpc":"2.0","id":1,"result":{}}', b'{"id":"x","error":{"code":1,"message":""}}']
)
def test_answers_of_the_client_are_passed_over(host: Host, line: bytes) -> None:
    host.line(line)
    host.assert_silent()


@pytest.mark.parametrize("request_id", IDS)
@pytest.mark.parametrize(("method", "params"), ONE_OF_EACH)
def test_id_comes_back_as_it_was(host: Host, request_id: Any, method: str, params: Json) -> None:
    answer = host.request(method, params, request_id)
    assert answer["id"] == request_id
    assert type(answer["id"]) is type(request_id)


@pytest.mark.parametrize(("method", "params"), ONE_OF_EACH)
def test_request_without_id_is_answered_with_null(host: Host, method: str, params: Json) -> None:
    assert host.request(method, params, NO_ID)["id"] is None


def test_request_without_jsonrpc_is_served(host: Host) -> None:
    host.line(b'{"id":1,"method":"ping"}')
    assert host.next() == {"jsonrpc": "2.0", "id": 1, "result": {}}


def test_repeated_ids_are_answered_one_by_one(host: Host) -> None:
    for text in ("a", "b"):
        host.call("echo", {"text": text}, request_id=2)
    assert [text_of(host.next()), text_of(host.next())] == ["a", "b"]


@pytest.mark.parametrize("line", [b"{", b"nonsense", b"\xff", b"[" * 100_000])
def test_bad_line_is_answered_without_id_and_the_next_line_is_served(host: Host, line: bytes) -> None:
    host.line(line)
    answer = host.next()
    assert "id" not in answer
    assert error_of(answer)[0] == -32700
    host.assert_silent()


def test_too_long_line_is_answered_with_the_setting_that_bounds_it(make_host: MakeHost) -> None:
    host = make_host(max_line_bytes=5000)
    host.line(LineTooLong())
    answer = host.next()
    assert "id" not in answer
    code, message = error_of(answer)
    assert code == -32600
    assert "5000" in message
    assert "VLLM_MAX_LINE_BYTES" in message
    host.assert_silent()


@pytest.mark.parametrize(
    "meta", [{"io.modelcontextprotocol/protocolVersion": MODERN}, {"io.modelcontextprotocol/clientCapabilities": {}}]
)
def test_half_an_envelope_is_an_error_with_the_requests_id(host: Host, meta: Json) -> None:
    assert error_of(host.request("tools/list", {"_meta": meta}, "h"))[0] == -32602


def test_unknown_modern_version_is_an_error_with_the_requests_id(host: Host) -> None:
    meta = {**envelope(), "io.modelcontextprotocol/protocolVersion": "2030-01-01"}
    answer = host.request("server/discover", {"_meta": meta}, "probe")
    assert error_of(answer)[0] == -32022
    assert answer["error"]["data"]["requested"] == "2030-01-01"


# Batches


BATCH = b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"method":"notifications/x"},7,{"id":2,"method":"tools/list"}]'


def test_batch_in_its_one_revision_is_answered_line_by_line(host: Host) -> None:
    host.initialize("2025-03-26")
    host.line(BATCH)
    assert host.next() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert error_of(host.next())[0] == -32600
    assert host.next()["id"] == 2
    host.assert_silent()


@pytest.mark.parametrize("version", [None, *(version for version in LEGACY if version != "2025-03-26")])
def test_batch_in_any_other_revision_is_one_error(host: Host, version: str | None) -> None:
    if version is not None:
        host.initialize(version)
    host.line(BATCH)
    answer = host.next()
    assert "id" not in answer
    assert error_of(answer)[0] == -32600
    host.assert_silent()


def test_empty_batch_is_an_error(host: Host) -> None:
    host.initialize("2025-03-26")
    host.line(b"[]")
    assert error_of(host.next())[0] == -32600
    host.assert_silent()


def test_initialize_cannot_be_part_of_a_batch(host: Host) -> None:
    host.initialize("2025-03-26")
    host.line(b'[{"id":9,"method":"initialize","params":{"protocolVersion":"2024-11-05"}}]')
    answer = host.next()
    assert answer["id"] == 9
    assert error_of(answer)[0] == -32600
    host.line(b'[{"id":1,"method":"ping"}]')
    assert host.next()["result"] == {}


# Tools


@pytest.mark.parametrize("version", REVISIONS)
def test_tools_are_listed_in_each_revision(host: Host, version: str) -> None:
    if version == MODERN:
        answer = host.request("tools/list", modern())
    else:
        host.initialize(version)
        answer = host.request("tools/list")
    tools = check_result("tools/list", version, answer)["tools"]
    assert [tool["name"] for tool in tools][:2] == ["echo", "wait"]
    assert all(tool["inputSchema"]["type"] == "object" for tool in tools)


def test_tools_are_loaded_once_and_not_before_somebody_asks(host: Host) -> None:
    host.initialize()
    host.request("ping")
    host.request("server/discover", modern())
    assert host.n_toolbox_loads == 0
    for _ in range(3):
        host.request("tools/list")
    host.call("echo", {"text": "x"})
    host.next()
    assert host.n_toolbox_loads == 1


def test_unknown_cursor_is_an_error(host: Host) -> None:
    assert error_of(host.request("tools/list", {"cursor": "2"}))[0] == -32602
    assert "tools" in host.request("tools/list", {"cursor": None})["result"]


@pytest.mark.parametrize("version", REVISIONS)
def test_tool_is_called_in_each_revision(host: Host, version: str) -> None:
    if version != MODERN:
        host.initialize(version)
    host.call("echo", {"text": "ab", "times": 2}, meta=envelope() if version == MODERN else None)
    result = check_result("tools/call", version, host.next())
    assert result["content"] == [{"type": "text", "text": "abab"}]
    assert result["structuredContent"] == {"text": "abab", "figure": None}
    assert not result["isError"]
    assert ("resultType" in result) == (version == MODERN)


def test_tool_is_called_without_initialize(host: Host) -> None:
    host.call("echo", {"text": "x"}, request_id=0)
    check_result("tools/call", "2024-11-05", host.next())
    assert host.gates.calls[0].revision.name == "2024-11-05"


@pytest.mark.parametrize("arguments", [{"arguments": None}, {}])
def test_absent_arguments_are_no_arguments(host: Host, arguments: Json) -> None:
    assert text_of(host.request("tools/call", {"name": "tell", **arguments})) == "told"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "name must be a string"),
        ({"name": 5}, "name must be a string"),
        ({"name": None, "arguments": {}}, "name must be a string"),
        ({"name": "echo", "arguments": []}, "arguments must be an object"),
        ({"name": "echo", "arguments": "text"}, "arguments must be an object"),
        ({"name": "no_such_tool"}, "Unknown tool: no_such_tool"),
        ({"name": ""}, "Unknown tool: "),
    ],
)
def test_malformed_call_is_a_protocol_error(host: Host, params: Json, words: str) -> None:
    code, message = error_of(host.request("tools/call", params))
    assert code == -32602
    assert words in message


@pytest.mark.parametrize("version", REVISIONS)
def test_bad_arguments_are_the_tools_error(host: Host, version: str) -> None:
    host.call("echo", {"text": 5}, meta=envelope() if version == MODERN else None)
    answer = host.next()
    assert check_result("tools/call", version, answer)["isError"]
    assert text_of(answer) == "arguments.text: expected str, got int"
    assert "structuredContent" not in answer["result"]


@pytest.mark.parametrize("tool", ["crash", "unencodable"])
def test_defect_of_a_tool_is_an_error_without_its_details(host: Host, tool: str) -> None:
    host.call(tool)
    answer = host.next()
    assert answer["result"]["isError"]
    assert "0x7f00" not in text_of(answer)
    assert "Traceback" not in text_of(answer)
    host.drain()


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("kind", THROWN)
def test_nothing_that_a_tool_raises_ends_the_worker(kind: str, n_workers: int, make_host: MakeHost) -> None:
    host = make_host(max_concurrent=n_workers)
    for number in range(4):
        answer = host.request("tools/call", {"name": "throw", "arguments": {"kind": kind}}, number)
        assert answer["result"]["isError"]
    answer = host.request("tools/call", {"name": "echo", "arguments": {"text": "still here"}}, "next")
    assert answer["result"]["content"][0]["text"] == "still here"


@pytest.mark.parametrize("kind", THROWN.values())
def test_nothing_that_a_task_raises_ends_the_worker(kind: type[BaseException], host: Host) -> None:
    def throw(enter_phase: object) -> None:
        raise kind

    host.server.queue.put(Task("preload", throw))
    host.drain()


@pytest.mark.parametrize("kind", THROWN.values())
def test_nothing_that_loading_the_tools_raises_ends_the_server(
    kind: type[BaseException], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throw() -> None:
        raise kind

    with monkeypatch.context() as patch:
        patch.setattr(host.server, "_load_toolbox", throw)
        assert host.request("tools/list")["error"]["code"] == INTERNAL_ERROR
    assert "result" in host.request("tools/list")


def test_defect_in_loading_the_tools_is_an_internal_error_and_the_server_lives(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise ImportError("/secret/path")

    monkeypatch.setattr(host.server, "_load_toolbox", broken)
    assert error_of(host.request("tools/list")) == (-32603, "Internal error")
    host.assert_silent()


def test_settings_problems_are_the_answer_of_every_call_and_of_nothing_else(make_host: MakeHost) -> None:
    host = make_host(problems=("The setting A is 1.", "The setting B is 2."))
    host.initialize()
    assert host.request("tools/list")["result"]["tools"]
    for _ in range(2):
        host.call("echo", {"text": "x"})
        answer = host.next()
        assert answer["result"]["isError"]
        assert text_of(answer) == "The setting A is 1.\nThe setting B is 2."
    assert error_of(host.request("tools/call", {"name": "no_such_tool"}))[0] == -32602


def test_calls_are_answered_in_order(host: Host) -> None:
    for number in range(50):
        host.call("echo", {"text": str(number)}, request_id=number)
    assert [host.next()["id"] for _ in range(50)] == list(range(50))


def test_protocol_requests_do_not_wait_for_a_running_call(host: Host) -> None:
    host.call("wait", request_id="w")
    assert host.gates.running.wait(30)
    assert host.request("ping", {}, "p")["result"] == {}
    assert host.request("tools/list", {}, "l")["result"]["tools"]
    host.gates.go_on.set()
    assert host.next()["id"] == "w"


# Cancelling


def test_cancelled_running_call_stops_and_gets_no_answer(host: Host) -> None:
    host.call("wait", request_id=5)
    assert host.gates.running.wait(30)
    host.notify("notifications/cancelled", {"requestId": 5, "reason": "user"})
    assert host.gates.ended.wait(30)
    host.drain()


def test_cancelled_queued_call_is_not_run_and_gets_no_answer(host: Host) -> None:
    host.call("wait", request_id=5)
    host.call("echo", {"text": "x"}, request_id=6)
    host.notify("notifications/cancelled", {"requestId": 6})
    host.gates.go_on.set()
    assert host.next()["id"] == 5
    host.drain()
    assert [call.request_id for call in host.gates.calls] == ["drained?"]


@pytest.mark.parametrize(("request_id", "other"), [(1, "1"), ("1", 1), (0, ""), (1, 1.0), (1, True), (None, "")])
def test_cancelling_another_id_cancels_nothing(host: Host, request_id: Any, other: Any) -> None:
    host.call("wait", request_id=request_id)
    assert host.gates.running.wait(30)
    host.notify("notifications/cancelled", {"requestId": other})
    host.gates.go_on.set()
    answer = host.next()
    assert answer["id"] == request_id
    assert text_of(answer) == "waited"


@pytest.mark.parametrize("params", [{"requestId": 1}, {"requestId": [1]}, {"requestId": {}}, {}, None, [1]])
def test_cancelling_what_is_not_there_is_passed_over(host: Host, params: Any) -> None:
    host.call("echo", {"text": "finished"}, request_id=1)
    assert host.next()["id"] == 1
    host.notify("notifications/cancelled", params)
    host.assert_silent()
    host.drain()


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
def test_id_of_a_cancelled_call_can_be_used_again(host: Host, version: str) -> None:
    meta = envelope() if version == MODERN else None
    host.call("wait", request_id=5, meta=meta)
    host.notify("notifications/cancelled", {"requestId": 5})
    host.call("echo", {"text": "again"}, request_id=5, meta=meta)
    assert text_of(host.next()) == "again"


def test_cancelling_a_repeated_id_cancels_the_oldest_call(host: Host) -> None:
    host.call("wait", request_id=2)
    assert host.gates.running.wait(30)
    host.call("echo", {"text": "second"}, request_id=2)
    host.notify("notifications/cancelled", {"requestId": 2})
    assert text_of(host.next()) == "second"
    host.drain()


# Progress and log


@pytest.mark.parametrize("token", [0, "", "abc", 7, -1, 2**60, 1.5])
def test_progress_goes_to_whoever_gave_a_token(host: Host, token: Any) -> None:
    host.initialize()
    host.call("tell", meta={"progressToken": token})
    first, second, answer = host.next(), host.next(), host.next()
    assert first == {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token, "progress": 1, "total": 3, "message": "one"},
    }
    assert second["params"]["progress"] == 3
    assert answer["id"] == 1


@pytest.mark.parametrize("meta", [None, {}, {"progressToken": None}, {"progressToken": True}, {"progressToken": [1]}])
def test_no_token_no_progress(host: Host, meta: Json | None) -> None:
    host.initialize()
    host.call("tell", meta=meta)
    assert host.next()["id"] == 1


def test_progress_has_no_words_where_the_revision_knows_none(host: Host) -> None:
    host.call("tell", meta={"progressToken": 1})
    assert host.next()["params"] == {"progressToken": 1, "progress": 1, "total": 3}


def test_phases_are_progress_that_grows(host: Host) -> None:
    host.initialize()
    host.gates.go_on.set()
    host.call("load", meta={"progressToken": 1})
    params = host.next()["params"]
    assert params["message"] == "loading weights"
    assert 0 < params["progress"] < 1
    assert text_of(host.next()) == "loaded"


def test_legacy_client_gets_log_messages_after_it_set_a_level(host: Host) -> None:
    host.initialize()
    host.call("tell")
    assert host.next()["id"] == 1
    assert host.request("logging/setLevel", {"level": "warning"}) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    host.call("tell")
    assert host.next() == {
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": {"level": "warning", "logger": "tell", "data": "a warning"},
    }
    assert host.next()["id"] == 1


@pytest.mark.parametrize("level", [None, "loud", 5, ["debug"], "DEBUG"])
def test_unknown_log_level_is_an_error(host: Host, level: Any) -> None:
    code, message = error_of(host.request("logging/setLevel", {"level": level}))
    assert code == -32602
    assert "debug, info" in message


def test_modern_client_sets_the_log_level_with_each_request(host: Host) -> None:
    host.request("logging/setLevel", {"level": "debug"})  # a legacy client's, in the same process
    host.call("tell", meta=envelope())
    assert host.next()["id"] == 1
    host.call("tell", meta=envelope(**{"io.modelcontextprotocol/logLevel": "debug"}))
    assert [host.next()["params"]["level"] for _ in range(2)] == ["debug", "warning"]
    assert host.next()["id"] == 1


@pytest.mark.parametrize("level", [None, 5, "loud", []])
def test_junk_for_a_log_level_is_no_log_level(host: Host, level: Any) -> None:
    host.call("tell", meta=envelope(**{"io.modelcontextprotocol/logLevel": level}))
    assert host.next()["id"] == 1


# Deadlines


@pytest.mark.parametrize(
    ("tool", "timeout_s", "expected_s"),
    [
        ("limited", 3, 3),
        ("limited", 0.5, 0.5),
        ("limited", 30, 10),
        ("limited", 10**400, 10),
        ("limited", -1, 10),
        ("limited", "3", 3),
        ("limited", "3 s", 10),
        ("limited", True, 10),
        ("limited", None, 10),
        ("big", 3, 10),
    ],
)
def test_limit_that_a_call_brings_along_holds_while_it_waits(
    make_host: MakeHost, tool: str, timeout_s: Any, expected_s: float
) -> None:
    host = make_host(call_timeout_s=10.0)
    host.call("wait", request_id="w")
    assert host.gates.running.wait(WAIT_S)
    host.call(tool, {"timeout_s": timeout_s}, request_id="l")
    call = host.server.queue.cancel("l", host.connection)
    assert call is not None
    assert call.deadline_s is not None
    assert call.deadline_s - call.arrived_s == pytest.approx(expected_s)


# The size of results


MAX_BYTES = 10_000


def next_line(host: Host) -> bytes:
    return host.wire.lines.get(timeout=30)


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize(
    ("n_text", "n_preview", "kept"),
    [
        pytest.param(100, 100, "all", id="small"),
        pytest.param(100, 50_000, "text", id="the preview goes first"),
        pytest.param(MAX_BYTES - 1000, 2_000, "text", id="only the preview is too much"),
        pytest.param(50_000, 0, "error", id="the text is too long"),
        pytest.param(50_000, 50_000, "error", id="text and preview are too long"),
        *(
            pytest.param(n_text, 5_000, None, id=f"near the limit: {n_text}")
            for n_text in range(MAX_BYTES - 400, MAX_BYTES, 40)
        ),
    ],
)
def test_result_never_exceeds_its_limit(
    make_host: MakeHost, version: str, n_text: int, n_preview: int, kept: str | None
) -> None:
    host = make_host(max_result_bytes=MAX_BYTES)
    host.initialize()
    meta = envelope() if version == MODERN else None
    host.call("big", {"n_text": n_text, "n_preview": n_preview}, meta=meta)
    line = next_line(host)
    assert len(line) <= MAX_BYTES
    result = check_result("tools/call", version, json.loads(line))
    seen = "error" if result["isError"] else "all" if len(result["content"]) == 2 else "text"
    if kept is not None:
        assert seen == kept
    if seen == "error":
        (block,) = result["content"]
        assert "VLLM_MAX_RESULT_BYTES" in block["text"]
        assert "Ask for less" in block["text"]


# The work that a session begins with


@pytest.mark.parametrize(("method", "params"), [("initialize", {}), ("tools/list", modern())])
def test_start_work_runs_once_with_the_first_sign_of_a_session(make_host: MakeHost, method: str, params: Json) -> None:
    runs: list[str] = []
    host = make_host(on_start=Task("preload", lambda enter_phase: runs.append("ran")))
    host.request("ping")
    host.request("server/discover", modern())
    host.drain()
    assert runs == []
    host.request(method, params)
    host.request(method, params)
    host.drain()
    assert runs == ["ran"]


def test_failed_start_work_does_not_stop_the_worker(make_host: MakeHost) -> None:
    def fail(enter_phase: Any) -> None:
        raise RuntimeError("no model")

    host = make_host(on_start=Task("preload", fail))
    host.initialize()
    host.drain()


# Many calls


def test_call_beyond_the_queue_is_told_so_at_once_and_the_others_are_answered_in_order(make_host: MakeHost) -> None:
    host = make_host(max_queue=2)
    host.call("wait", request_id="first")
    assert host.gates.running.wait(WAIT_S)
    for request_id in ("a", "b", "too many"):
        host.call("echo", {"text": "x"}, request_id=request_id)
    answer = host.next()
    assert (answer["id"], answer["result"]["isError"]) == ("too many", True)
    assert "busy: 2 calls wait, and VLLM_MAX_QUEUE" in text_of(answer)
    host.gates.go_on.set()
    assert [host.next()["id"] for _ in range(3)] == ["first", "a", "b"]
    host.assert_silent()


def test_replies_come_as_they_are_ready_where_several_calls_may_run(make_host: MakeHost) -> None:
    host = make_host(max_concurrent=2)
    host.call("wait", request_id="long")
    assert host.gates.running.wait(WAIT_S)
    host.call("echo", {"text": "x"}, request_id="short")
    assert host.next()["id"] == "short"
    host.gates.go_on.set()
    assert host.next()["id"] == "long"
