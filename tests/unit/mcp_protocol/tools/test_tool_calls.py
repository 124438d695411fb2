"""Tool calls through the server: results, errors, deadlines and limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_protocol.calls.task import Task
from mcp_protocol.jsonrpc import INTERNAL_ERROR
from tests.mcp_results import MODERN, REVISIONS, Json, check_result, envelope, text_of
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import THROWN, WAIT_S, Host, error_of, modern


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
    assert host.gates.calls[0].context.revision.name == "2024-11-05"


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


def test_limit_that_a_call_brings_along_holds_without_one_of_the_server(host: Host) -> None:
    host.call("wait", request_id="w")
    assert host.gates.running.wait(WAIT_S)
    host.call("limited", {"timeout_s": 5}, request_id="l")
    call = host.server.queue.cancel("l", host.connection)
    assert call is not None
    assert call.deadline_s == call.arrived_s + 5


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
