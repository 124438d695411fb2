"""Many calls at once and many sessions: none lost, none doubled, none out of order."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import text_of

N_CALLS = 1_000


def chat(text: str, max_tokens: int = 1, **arguments: object) -> Json:
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, **arguments}


def send(server: ServerProcess, request_id: int) -> None:
    """One call of many: every fifth generates."""
    if request_id % 5 == 0:
        server.send_call("chat_completion", chat(f"{request_id}: hello"), request_id=request_id)
    else:
        server.send_call(("model_info", "list_sessions")[request_id % 2], request_id=request_id)


def test_thousand_queued_calls_are_answered_in_order(demo_server: ServerProcess) -> None:
    for number in range(N_CALLS):
        send(demo_server, number)
    found = [demo_server.read_message(LOAD_S) for _ in range(N_CALLS)]
    demo_server.assert_serves()
    assert [message["id"] for message in found] == list(range(N_CALLS))
    assert not any(message["result"]["isError"] for message in found)


def test_hundred_sessions_in_turn_each_remember_their_own(demo_server: ServerProcess) -> None:
    for turn in range(3):
        for number in range(100):
            arguments = chat(f"turn {turn} of {number}", session_id=f"load {number}")
            demo_server.send_call("chat_completion", arguments, request_id=f"{turn}/{number}")
    for turn in range(3):
        for number in range(100):
            answer = demo_server.read_answer(f"{turn}/{number}", LOAD_S)
            assert answer["result"]["structuredContent"]["session_messages"] == 2 * turn + 2
    for number in range(100):
        messages = demo_server.result("get_session", {"session_id": f"load {number}"})["messages"]
        said = [message["text"] for message in messages if message["role"] == "user"]
        assert said == [f"turn {turn} of {number}" for turn in range(3)]
        demo_server.result("delete_session", {"session_id": f"load {number}"})


@pytest.mark.parametrize("n_workers", ["1", "8"])
def test_calls_beyond_the_queue_are_told_so_and_the_others_are_answered(model: dict[str, str], n_workers: str) -> None:
    with ServerProcess({**model, "VLLM_MAX_QUEUE": "20", "VLLM_MAX_CONCURRENT": n_workers}) as server:
        server.initialize()
        for number in range(100):  # the first ones load the model, so the others have to wait
            server.send_call("chat_completion", chat(f"{number}: hello"), request_id=number)
        found = [server.read_message(LOAD_S) for _ in range(100)]
        server.assert_serves()
        assert Counter(message["id"] for message in found) == Counter(range(100))
        refused = [message for message in found if message["result"]["isError"]]
        assert all("busy: 20 calls wait, and VLLM_MAX_QUEUE" in text_of(message) for message in refused)
        answered = [message["id"] for message in found if not message["result"]["isError"]]
        assert len(answered) >= 20 + int(n_workers)
        assert len(refused) >= 50
        if n_workers == "1":
            assert answered == sorted(answered)
