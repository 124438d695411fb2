"""Questions to the user of a client with a session: requests of the server, while other calls go on."""

from __future__ import annotations

from typing import Any

import pytest
from mcp_types.methods import parse_server_request

from mcp_protocol.calls import parked_calls
from mcp_protocol.connection import Connection
from tests.mcp_results import text_of
from tests.unit.mcp_protocol.asking import FORM, AskingHost
from tests.waiting import wait_until


@pytest.fixture
def host() -> AskingHost:
    """A host whose server has the defaults."""
    return AskingHost()


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
def test_accepted_question_is_answered_with_its_values(host: AskingHost, version: str) -> None:
    host.begin(version)
    host.call("ask", {"about": "that"}, request_id=7)
    question = host.asked()
    assert question["params"] == {"message": "Do that?", "requestedSchema": FORM}
    parse_server_request("elicitation/create", version, question["params"])
    host.accept(question, ok=True, color="red", more=1)
    answer = host.next()
    assert answer["id"] == 7
    assert text_of(answer) == "accept {'color': 'red', 'ok': True}"
    host.assert_silent()


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_refusal_reaches_the_handler(host: AskingHost, action: str) -> None:
    host.begin()
    host.call("ask")
    host.respond(host.asked()["id"], result={"action": action})
    assert text_of(host.next()) == f"{action} {{}}"


@pytest.mark.parametrize(
    ("version", "capabilities"),
    [
        ("2025-11-25", {}),
        ("2025-11-25", {"elicitation": None}),
        ("2025-11-25", {"elicitation": {"url": {}}}),
        ("2025-03-26", {"elicitation": {}}),
        ("2024-11-05", {"elicitation": {}}),
    ],
)
def test_client_without_forms_gets_nothing_but_the_answer(host: AskingHost, version: str, capabilities: Any) -> None:
    host.begin(version, capabilities)
    host.call("ask", request_id=3)
    answer = host.next()
    assert answer["id"] == 3
    assert text_of(answer) == "not asked {}"
    host.assert_silent()


def test_client_without_initialize_is_not_asked(host: AskingHost) -> None:
    host.call("ask")
    assert text_of(host.next()) == "not asked {}"


def test_setting_never_asks_nobody() -> None:
    host = AskingHost(ask="never")
    host.begin()
    host.call("ask")
    assert text_of(host.next()) == "not asked {}"


def test_other_calls_go_on_meanwhile(host: AskingHost) -> None:
    host.begin()
    host.call("ask", request_id=1)
    question = host.asked()
    host.call("echo", {"text": "meanwhile"}, request_id=2)
    assert host.next()["id"] == 2
    host.accept(question, ok=False)
    assert host.next()["id"] == 1


def test_answered_call_runs_before_later_ones(host: AskingHost) -> None:
    host.begin()
    host.call("ask", request_id=1)
    question = host.asked()
    host.call("wait", request_id=2)
    assert host.gates.running.wait(30)
    host.call("echo", {"text": "later"}, request_id=3)
    host.accept(question, ok=True)
    host.gates.go_on.set()
    assert [host.next()["id"] for _ in range(3)] == [2, 1, 3]


def test_call_may_ask_several_questions(host: AskingHost) -> None:
    host.begin()
    host.call("ask", {"times": 3})
    ids = []
    for _ in range(3):
        question = host.asked()
        ids.append(question["id"])
        host.accept(question, ok=True)
    assert text_of(host.next()) == "accept {'ok': True} accept {'ok': True} accept {'ok': True}"
    assert len(set(ids)) == 3


def test_long_arguments_are_there_when_the_call_runs_again(host: AskingHost) -> None:
    host.begin()
    host.call("ask", {"about": "x" * 20_000})
    host.accept(host.asked(), ok=True)
    assert text_of(host.next()) == "accept {'ok': True}"
    assert [len(call.arguments) for call in host.gates.calls] == [0, 0]
    host.wait_until_idle()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"result": {"action": "accept", "content": {"ok": "yes"}}}, "ok must be true or false"),
        ({"result": {"action": "accept", "content": {"ok": True, "color": "green"}}}, "color must be one of red, blue"),
        ({"result": {"action": "accept", "content": {}}}, "lacks ok"),
        ({"result": {"action": "accept"}}, "lacks ok"),
        ({"result": {"action": "accept", "content": [1]}}, "must be an object"),
        ({"result": {"action": "perhaps"}}, "no valid action"),
        ({"result": {"action": ["accept"]}}, "no valid action"),
        ({"result": 5}, "no valid action"),
        ({"result": None}, "no valid action"),
        ({"result": {"action": "accept", "content": {"ok": "x" * 20_000}}}, "no valid action"),
        ({"error": {"code": -32601, "message": "Method not found"}}, "did not ask the user: Method not found"),
        ({"error": 1}, "did not ask the user"),
    ],
)
def test_invalid_answer_is_an_error_of_the_call(host: AskingHost, body: Any, text: str) -> None:
    host.begin()
    host.call("ask")
    host.respond(host.asked()["id"], **body)
    answer = host.next()
    assert answer["result"]["isError"]
    assert text in text_of(answer)
    host.drain()


def test_answers_to_no_question_are_ignored(host: AskingHost) -> None:
    host.begin()
    host.call("ask")
    question = host.asked()
    for other in ("ask-0", 1, None, 1.5, question["id"] + "0"):
        host.respond(other, result={"action": "decline"})
    host.server.handle(_response(question["id"]), Connection(), host.wire)  # another client's
    host.accept(question, ok=True)
    assert text_of(host.next()) == "accept {'ok': True}"
    host.accept(question, ok=False)
    host.assert_silent()


def _response(question_id: str) -> Any:
    from mcp_protocol.jsonrpc import Response

    return Response(question_id, {"action": "decline"})


def test_cancelled_call_gets_no_answer_and_is_released(host: AskingHost) -> None:
    host.begin()
    host.call("ask", request_id=4)
    question = host.asked()
    (call,) = host.gates.calls
    wait_until(lambda: not call.started)
    released: list[int] = []
    call.on_release(lambda: released.append(1))
    host.notify("notifications/cancelled", {"requestId": 4})
    assert released == [1]
    host.accept(question, ok=True)
    host.drain()
    assert [each.tool for each in host.gates.calls] == ["ask", "echo"]
    assert host.server.queue.drained


def test_question_ends_at_the_deadline_of_the_call(host: AskingHost) -> None:
    host.begin()
    host.call("ask", {"timeout_s": 0.2}, request_id=4)
    question = host.asked()
    due_s = host.server.queue.next_deadline_s()
    assert due_s is not None
    assert due_s <= host.gates.calls[0].arrived_s + 0.2
    wait_until(lambda: _fail_overdue(host))
    withdrawn = host.next()
    assert withdrawn["method"] == "notifications/cancelled"
    assert withdrawn["params"]["requestId"] == question["id"]
    answer = host.next()
    assert answer["result"]["isError"]
    assert "did not answer" in text_of(answer)
    host.accept(question, ok=True)
    host.drain()


def _fail_overdue(host: AskingHost) -> bool:
    overdue = list(host.server.queue.overdue())
    for call, text in overdue:
        host.server.fail(call, text, "timeout")
    return bool(overdue)


def test_question_without_a_deadline_ends_after_two_minutes(host: AskingHost) -> None:
    host.begin()
    host.call("ask")
    host.asked()
    due_s = host.server.queue.next_deadline_s()
    assert due_s is not None
    assert 0 < due_s - host.gates.calls[0].arrived_s - 120 < 30


def test_end_of_the_input_ends_the_question(host: AskingHost) -> None:
    host.begin()
    host.call("ask", request_id=1)
    host.asked()
    host.call("wait", request_id=2)
    assert host.gates.running.wait(30)
    host.call("ask", request_id=3)
    host.server.end_questions(host.connection)
    assert not host.server.queue.drained
    host.gates.go_on.set()
    answers = {answer["id"]: answer["result"] for answer in (host.next(), host.next(), host.next())}
    assert answers[2]["isError"] is False
    for request_id in (1, 3):
        assert answers[request_id]["isError"]
        assert "input has ended" in answers[request_id]["content"][0]["text"]
    wait_until(lambda: host.server.queue.drained)


def test_shutdown_fails_the_waiting_call(host: AskingHost) -> None:
    host.begin()
    host.call("ask", request_id=1)
    host.asked()
    wait_until(lambda: not host.server.queue.is_busy)
    assert [call.request_id for call in host.server.queue.stop(1.0)] == [1]


def test_number_of_open_questions_is_bounded(host: AskingHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked_calls, "MAX_OPEN", 2)
    host.begin()
    questions = []
    for number in range(2):
        host.call("ask", request_id=number)
        questions.append(host.asked())
    host.call("ask", request_id=2)
    answer = host.next()
    assert answer["id"] == 2
    assert answer["result"]["isError"]
    assert "questions to the user are open" in text_of(answer)
    host.accept(questions[0], ok=True)
    assert host.next()["id"] == 0
    host.call("ask", request_id=3)
    host.asked()


def test_several_workers_ask_side_by_side() -> None:
    host = AskingHost(max_concurrent=4)
    host.begin()
    for number in range(6):
        host.call("ask", {"about": str(number)}, request_id=number)
    questions = [host.asked() for _ in range(6)]
    for question in reversed(questions):
        host.accept(question, ok=True)
    assert {host.next()["id"] for _ in range(6)} == set(range(6))
    host.wait_until_idle()
    assert host.server.queue.drained
