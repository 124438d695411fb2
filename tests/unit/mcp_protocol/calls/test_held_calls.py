"""Long calls wait as bytes, all calls together within a budget, and what they held comes back however they end."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from msgspec import Raw

from mcp_protocol import jsonrpc
from mcp_protocol.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    NO_ID,
    PARSE_ERROR,
    SHORT_BYTES,
    Batch,
    ProtocolError,
    Request,
    Response,
    parse,
)
from sandbox.budget import ByteBudget
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import WAIT_S, Host

LONG = "x" * 10_000
MIB = 1 << 20


def tool_call(arguments: bytes, *, meta: str = "{}", request_id: str = "7") -> bytes:
    """A line with a `tools/call` of `echo`."""
    return (
        (
            f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call","params":{{"_meta":{meta},"name":"echo","arguments":'
        ).encode()
        + arguments
        + b"}}"
    )


def test_arguments_of_a_long_call_stay_bytes_and_the_rest_is_read() -> None:
    arguments = b'{"text":"' + LONG.encode() + b'"}'
    message = parse(tool_call(arguments, meta='{"progressToken":3}'))
    assert isinstance(message, Request)
    assert (message.id, message.params["name"], message.params["_meta"]) == (7, "echo", {"progressToken": 3})
    assert isinstance(message.params["arguments"], Raw)
    assert bytes(message.params["arguments"]) == arguments


def test_other_long_messages_are_read_as_a_whole() -> None:
    message = parse(json.dumps({"id": 1, "method": "resources/read", "params": {"uri": LONG}}).encode())
    assert message == Request(1, "resources/read", {"uri": LONG})


def test_long_answer_of_a_client_is_not_read() -> None:
    text = LONG + SHORT_BYTES * "x"
    assert parse(json.dumps({"id": 1, "result": [text]}).encode()) == Response(1)
    assert parse(json.dumps({"id": 1, "error": {"message": text}}).encode()) == Response(1)


def test_messages_of_a_long_batch_are_read_one_by_one() -> None:
    line = b"[" + tool_call(b'{"text":"' + LONG.encode() + b'"}') + b',{"id":8,"method":"ping"},[1],2]'
    message = parse(line)
    assert isinstance(message, Batch)
    first, second = (jsonrpc.message_of(item) for item in message.items[:2])
    assert isinstance(first, Request)
    assert isinstance(first.params["arguments"], Raw)
    assert second == Request(8, "ping", {})
    for item in message.items[2:]:
        with pytest.raises(ProtocolError, match="expected a JSON object"):
            jsonrpc.message_of(item)


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        pytest.param(tool_call(b'{"text":"' + LONG.encode() + b'",}'), PARSE_ERROR, NO_ID, id="a comma too much"),
        pytest.param(tool_call(b"[" * 50_000), PARSE_ERROR, NO_ID, id="50,000 lists deep"),
        pytest.param(tool_call(b'"' + LONG.encode()), PARSE_ERROR, NO_ID, id="cut off"),
        pytest.param(tool_call(b'["' + LONG.encode() + b'"]', request_id="true"), INVALID_REQUEST, None, id="id true"),
        pytest.param(b'{"id":[' + b"1," * 5_000 + b'1],"method":"ping"}', INVALID_REQUEST, None, id="id a long list"),
        pytest.param(b'{"id":4,"method":{"a":"' + LONG.encode() + b'"}}', INVALID_REQUEST, 4, id="method an object"),
        pytest.param(
            b'{"id":4,"method":"tools/call","params":["' + LONG.encode() + b'"]}', INVALID_PARAMS, 4, id="params a list"
        ),
        pytest.param(b'"' + LONG.encode() + b'"', INVALID_REQUEST, NO_ID, id="a long string"),
    ],
)
def test_long_messages_are_refused_as_short_ones_are(line: bytes, code: int, request_id: Any) -> None:
    with pytest.raises(ProtocolError) as error:
        parse(line)
    assert (error.value.code, error.value.request_id) == (code, request_id)


@pytest.mark.parametrize("at", ["_meta", "params", "batch", "value"])
def test_what_would_take_too_much_memory_outside_of_arguments_is_refused(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonrpc, "MAX_OBJECT_BYTES", 100_000)
    many = b"[" + b",".join([b"{}"] * 4_000) + b"]"
    line = {
        "_meta": tool_call(b"{}", meta=many.decode()),
        "params": b'{"id":7,"method":"prompts/get","params":{"a":%b}}' % many,
        "batch": many,
        "value": b'{"id":7,"method":"ping","other":%b}' % many,
    }[at]
    with pytest.raises(ProtocolError, match=r"would take about .* MiB of memory\. Send less at once"):
        parse(line)
    assert isinstance(parse(tool_call(b'{"a":%b}' % many)), Request)


@pytest.mark.parametrize("many", [b"[" + b"{}," * 200_000 + b"{}]", b'{"a":[' + b"{}," * 200_000 + b"{}]}"])
def test_long_lists_where_text_is_due_are_refused_without_a_look_into_them(host: Host, many: bytes) -> None:
    def refused(line: bytes) -> tuple[int, str]:
        tracemalloc.start()
        try:
            host.line(line)
            error = host.next()["error"]
            assert tracemalloc.get_traced_memory()[1] < 3 * len(line) + 100_000
        finally:
            tracemalloc.stop()
        return error["code"], error["message"].partition(": ")[2]

    assert refused(b'{"id":%b,"method":"ping"}' % many)[0] == INVALID_REQUEST
    call = b'{"id":7,"method":"tools/call","params":{"name":%b,"arguments":%b}}'
    assert refused(call % (many, b"{}")) == (INVALID_PARAMS, "name must be a string")
    if many[:1] == b"[":
        assert refused(call % (b'"echo"', many)) == (INVALID_PARAMS, "arguments must be an object")


def test_long_call_is_run_like_a_short_one(host: Host) -> None:
    host.line(tool_call(json.dumps({"text": LONG + " \ud83d!"}).encode()))
    assert host.next()["result"]["structuredContent"]["text"] == LONG + " \ufffd!"


def test_long_call_that_turns_out_to_be_no_json_is_a_parse_error_with_its_id(host: Host) -> None:
    host.line(tool_call(b'{"text":"' + LONG.encode() + b'\xff"}'))
    answer = host.next()
    assert (answer["id"], answer["error"]["code"]) == (7, PARSE_ERROR)
    host.assert_silent()


def test_long_call_brings_its_limit_along(host: Host) -> None:
    host.call("limited", {"timeout_s": 1_000.0}, 1)
    assert host.gates.running.wait(WAIT_S)
    host.call("limited", {"timeout_s": 500.0, "padding": LONG}, 2)
    moment_s = host.server.queue.next_deadline_s()
    host.gates.go_on.set()
    assert moment_s is not None
    assert moment_s - time.monotonic() > 600  # with one worker the first call's counts
    host.next()
    assert "padding" in host.next()["result"]["content"][0]["text"]


def held(budget: ByteBudget) -> int:
    """What is held once the worker has let go, which it does after it has answered."""
    give_up_s = time.monotonic() + WAIT_S
    while budget.held_bytes and time.monotonic() < give_up_s:
        time.sleep(0.002)
    return budget.held_bytes


@pytest.mark.parametrize("text", ["short", LONG])
def test_calls_hold_bytes_until_they_end(text: str, make_host: MakeHost) -> None:
    budget = ByteBudget(MIB)
    host = make_host(budgets=[budget])
    host.call("wait", {}, 1)
    assert host.gates.running.wait(WAIT_S)
    before = budget.held_bytes
    host.call("echo", {"text": text}, 2)
    assert budget.held_bytes >= before + len(text)
    host.gates.go_on.set()
    assert [host.next()["id"] for _ in range(2)] == [1, 2]
    assert held(budget) == 0


def test_call_for_which_there_is_no_room_is_told_so_at_once(make_host: MakeHost) -> None:
    budget = ByteBudget(200_000)
    host = make_host(budgets=[budget])
    host.call("wait", {}, 1)
    assert host.gates.running.wait(WAIT_S)
    host.call("echo", {"text": "x" * 150_000}, 2)
    before = budget.held_bytes
    host.call("echo", {"text": "x" * 60_000}, 3)
    refused = host.next()
    assert refused["id"] == 3
    assert refused["result"]["isError"]
    assert "VLLM_MAX_HELD_BYTES" in refused["result"]["content"][0]["text"]
    assert budget.held_bytes == before
    host.call("echo", {"text": "y"}, 4)
    host.gates.go_on.set()
    assert [host.next()["id"] for _ in range(3)] == [1, 2, 4]
    assert held(budget) == 0


def test_objects_that_would_not_fit_are_not_made(make_host: MakeHost) -> None:
    host = make_host(budgets=[ByteBudget(100_000)])
    host.line(tool_call(b'{"text":[' + b",".join([b"{}"] * 4_000) + b"]}"))
    text = host.next()["result"]["content"][0]["text"]
    assert "of memory; VLLM_MAX_HELD_BYTES" in text
    assert "Send less at once" in text


def test_cancelled_calls_let_go_before_their_turn(make_host: MakeHost) -> None:
    budget = ByteBudget(MIB)
    host = make_host(budgets=[budget])
    host.call("wait", {}, 1)
    assert host.gates.running.wait(WAIT_S)
    before = budget.held_bytes
    for number in range(2, 5):
        host.call("echo", {"text": LONG}, number)
    host.notify("notifications/cancelled", {"requestId": 3})
    assert budget.held_bytes < before + 3 * len(LONG)
    host.server.forget(host.connection)
    host.gates.go_on.set()
    assert held(budget) == 0


def test_calls_that_are_overdue_let_go_before_their_turn(make_host: MakeHost) -> None:
    budget = ByteBudget(MIB)
    host = make_host(budgets=[budget], call_timeout_s=0.01)
    host.call("load", {}, 1)
    assert host.gates.running.wait(WAIT_S)
    before = budget.held_bytes
    host.call("echo", {"text": LONG}, 2)
    time.sleep(0.02)
    for call, text in host.server.queue.overdue():
        host.server.fail(call, text, "timeout")
    assert budget.held_bytes == before
    host.gates.go_on.set()
    assert held(budget) == 0
