"""Calls against the clock and against each other: deadlines, cancelling, and protocol requests meanwhile."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import check_result, text_of


def chat(max_tokens: int, **arguments: Any) -> Json:
    """Arguments of a chat that goes on for so many tokens."""
    messages = [{"role": "user", "content": "Tell me more."}]
    return {"messages": messages, "max_tokens": max_tokens, "ignore_eos": True, **arguments}


def wait_for_tokens(server: ServerProcess) -> None:
    """Waits until the running call has said something."""
    while (message := server.read_message(LOAD_S))["params"]["progress"] < 1:
        assert "method" in message, message


def test_calls_behind_a_load_are_answered_at_their_deadline_in_order_and_the_load_goes_on(
    model: dict[str, str],
) -> None:
    with ServerProcess({**model, "VLLM_CALL_TIMEOUT": "1.5"}) as server:
        server.initialize()
        server.send_call("chat_completion", chat(3), request_id="first")
        server.send_call("model_info", request_id="second")
        for request_id in ("first", "second"):
            answer = server.read_message()
            assert answer["id"] == request_id
            assert check_result("tools/call", "2025-11-25", answer)["isError"]
            assert "is still" in text_of(answer)
            assert "Try again" in text_of(answer)
        server.assert_serves()
        until_s = time.monotonic() + LOAD_S
        while (answer := server.call("chat_completion", chat(3)))["result"]["isError"]:
            assert "is still" in text_of(answer)
            assert time.monotonic() < until_s
        assert answer["result"]["structuredContent"]["finish_reason"] in ("length", "stop", "timeout")


def test_limits_of_calls_behind_a_load_count_from_their_arrival(model: dict[str, str]) -> None:
    with ServerProcess(model) as server:
        server.initialize()
        for request_id in ("first", "second", "third"):
            server.send_call("chat_completion", chat(3, timeout_s=1.5), request_id=request_id)
        for request_id in ("first", "second", "third"):
            answer = server.read_message()
            assert answer["id"] == request_id
            assert "is still" in text_of(answer)


def test_generation_ends_at_its_deadline_with_the_text_so_far(demo_server: ServerProcess) -> None:
    result = demo_server.result("chat_completion", chat(900, timeout_s=0.5))
    assert result["finish_reason"] == "timeout"
    assert result["usage"]["completion_tokens"] < 900


def test_protocol_requests_are_answered_during_a_generation(demo_server: ServerProcess) -> None:
    demo_server.send_call("chat_completion", chat(900), request_id="long", meta={"progressToken": "t"})
    wait_for_tokens(demo_server)
    demo_server.assert_serves()
    demo_server.notify("notifications/cancelled", {"requestId": "long"})
    assert not demo_server.call("model_info")["result"]["isError"]


def test_cancelled_generation_stops_without_an_answer(demo_server: ServerProcess) -> None:
    demo_server.send_call(
        "chat_completion", chat(900, session_id="cancelled"), request_id="long", meta={"progressToken": "t"}
    )
    demo_server.send_call("chat_completion", chat(900), request_id="queued")
    wait_for_tokens(demo_server)
    demo_server.notify("notifications/cancelled", {"requestId": "queued"})
    demo_server.notify("notifications/cancelled", {"requestId": "long"})
    sessions = demo_server.result("list_sessions")["sessions"]  # fails on an answer to one of the others
    assert "cancelled" not in {session["session_id"] for session in sessions}


def test_ten_pipelined_chats_are_answered_in_order(demo_server: ServerProcess) -> None:
    for number in range(10):
        demo_server.send_call("chat_completion", chat(2), request_id=f"p{number}")
    assert [demo_server.read_message(LOAD_S)["id"] for _ in range(10)] == [f"p{number}" for number in range(10)]


@pytest.mark.parametrize("token", [0, "", "abc"])
def test_progress_carries_the_text_as_it_comes(demo_server: ServerProcess, token: Any) -> None:
    demo_server.send_call("chat_completion", chat(40, temperature=0), request_id="p", meta={"progressToken": token})
    messages = [demo_server.read_message(LOAD_S)]
    while "id" not in messages[-1]:
        messages.append(demo_server.read_message(LOAD_S))
    *notifications, answer = messages
    assert notifications
    assert all(message["params"]["progressToken"] == token for message in notifications)
    figures = [message["params"]["progress"] for message in notifications]
    assert figures == sorted(set(figures))
    text = "".join(message["params"]["message"] for message in notifications if message["params"]["progress"] >= 1)
    assert text == text_of(answer)
