"""Questions to the user of a stateless client: results that require input, and the state that comes back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from mcp_protocol.calls import sealed_states
from mcp_protocol.connection import Connection
from tests.mcp_results import Json, check_result, text_of
from tests.unit.mcp_protocol.asking import FORM, FORMS, AskingHost
from tests.unit.mcp_protocol.host import error_of, modern

META = {"io.modelcontextprotocol/clientCapabilities": FORMS}
YES: Json = {"action": "accept", "content": {"ok": True}}


@pytest.fixture
def host() -> AskingHost:
    """A host whose server has the defaults."""
    return AskingHost()


def call(host: AskingHost, arguments: Json | None = None, tool: str = "ask", **params: Any) -> Json:
    """The answer to a stateless call."""
    return host.request("tools/call", modern(META, name=tool, arguments=arguments or {}, **params))


def asked(host: AskingHost, arguments: Json | None = None, **params: Any) -> str:
    """The state of the question that a call gets."""
    result = call(host, arguments, **params)["result"]
    assert result["resultType"] == "input_required"
    state: str = result["requestState"]
    return state


def refusal(host: AskingHost, arguments: Json | None = None, **params: Any) -> str:
    """The text of the error that a call gets for its state."""
    code, text = error_of(call(host, arguments, **params))
    assert code == -32602
    return text


def test_call_asks_by_its_result_and_is_answered_by_the_next(host: AskingHost) -> None:
    answer = call(host, {"about": "that"})
    check_result("tools/call", "2026-07-28", answer)
    requests = answer["result"]["inputRequests"]
    assert requests == {
        "q0": {"method": "elicitation/create", "params": {"message": "Do that?", "requestedSchema": FORM}}
    }
    state = answer["result"]["requestState"]
    answer = call(host, {"about": "that"}, requestState=state, inputResponses={"q0": YES, "other": 1})
    assert check_result("tools/call", "2026-07-28", answer)["resultType"] == "complete"
    assert text_of(answer) == "accept {'ok': True}"


def test_answers_of_earlier_rounds_are_kept(host: AskingHost) -> None:
    first = asked(host, {"times": 2})
    second = asked(host, {"times": 2}, requestState=first, inputResponses={"q0": YES})
    assert first != second
    answer = call(host, {"times": 2}, requestState=second, inputResponses={"q1": {"action": "decline"}})
    assert text_of(answer) == "accept {'ok': True} decline {}"


def test_long_arguments_keep_their_state(host: AskingHost) -> None:
    long = {"about": "x" * 20_000}
    answer = call(host, long, requestState=asked(host, long), inputResponses={"q0": YES})
    assert text_of(answer) == "accept {'ok': True}"


def test_order_of_the_arguments_does_not_matter(host: AskingHost) -> None:
    state = asked(host, {"about": "a", "times": 1})
    assert text_of(call(host, {"times": 1, "about": "a"}, requestState=state, inputResponses={"q0": YES}))


@pytest.mark.parametrize("responses", [{}, {"wrong": YES}, None])
def test_missing_answer_is_asked_for_again(host: AskingHost, responses: Any) -> None:
    state = asked(host)
    assert asked(host, requestState=state, inputResponses=responses) != state


def test_answer_without_a_state_does_not_count(host: AskingHost) -> None:
    asked(host, inputResponses={"q0": YES})


@pytest.mark.parametrize("response", [5, "accept", [], {"action": 1}, {"action": "accept", "content": {"ok": 1}}])
def test_invalid_answer_is_an_error_of_the_call(host: AskingHost, response: Any) -> None:
    result = call(host, requestState=asked(host), inputResponses={"q0": response})["result"]
    assert result["isError"]


def test_client_without_forms_is_not_asked(host: AskingHost) -> None:
    without: tuple[Json, ...] = ({}, {"sampling": {}}, {"elicitation": {"url": {}}})
    for declared in without:
        meta = {"io.modelcontextprotocol/clientCapabilities": declared}
        answer = host.request("tools/call", modern(meta, name="ask", arguments={}))
        assert text_of(answer) == "not asked {}"


def test_capability_of_initialize_does_not_count(host: AskingHost) -> None:
    host.begin()
    answer = host.request("tools/call", modern(name="ask", arguments={}))
    assert text_of(answer) == "not asked {}"


def test_replayed_state_is_refused(host: AskingHost) -> None:
    state = asked(host)
    assert text_of(call(host, requestState=state, inputResponses={"q0": YES}))
    assert "was used before" in refusal(host, requestState=state, inputResponses={"q0": YES})


def _altered(state: str) -> list[Any]:
    payload, tag = state.split(".")
    content = json.loads(base64.urlsafe_b64decode(payload))
    content["answers"] = {"q0": {"digest": content["digest"], "response": YES}}
    forged = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    flipped = ("0" if tag[0] != "0" else "1") + tag[1:]
    texts = [
        f"{state}x",
        f"{forged}.{tag}",
        f"{payload}.{flipped}",
        payload,
        f".{tag}",
        f"{payload}.",
        "",
        ".",
        "\u20ac",
        "\ud800",
    ]
    return [*texts, 5, [state], {"a": 1}]


def test_altered_state_is_refused_and_the_true_one_still_counts(host: AskingHost) -> None:
    state = asked(host)
    for altered in _altered(state):
        assert "requestState" in refusal(host, requestState=altered, inputResponses={"q0": YES})
    assert text_of(call(host, requestState=state, inputResponses={"q0": YES})) == "accept {'ok': True}"


def test_state_of_another_server_is_refused(host: AskingHost) -> None:
    state = asked(AskingHost())
    assert "not one that this server has sent" in refusal(host, requestState=state, inputResponses={"q0": YES})


def test_state_belongs_to_its_arguments_tool_and_owner(host: AskingHost) -> None:
    state = asked(host, {"about": "a"})
    assert "another call" in refusal(host, {"about": "b"}, requestState=state, inputResponses={"q0": YES})
    assert "another call" in refusal(host, {"text": "a"}, tool="echo", requestState=state)
    own, host.connection = host.connection, Connection(host.wire, owner=0)
    host.connection.owner = 1
    host.server._budgets.append(host.server._budgets[0])
    assert "another call" in refusal(host, {"about": "a"}, requestState=state, inputResponses={"q0": YES})
    host.connection = own
    assert text_of(call(host, {"about": "a"}, requestState=state, inputResponses={"q0": YES}))


def test_expired_state_is_refused(host: AskingHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_states, "ANSWER_S", -1.0)
    assert "has expired" in refusal(host, requestState=asked(host), inputResponses={"q0": YES})


def test_oldest_of_too_many_states_is_refused(host: AskingHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_states, "MAX_OPEN", 2)
    first, second, third = (asked(host) for _ in range(3))
    assert "requestState" in refusal(host, requestState=first, inputResponses={"q0": YES})
    for state in (second, third):
        assert text_of(call(host, requestState=state, inputResponses={"q0": YES}))


def test_responses_that_are_no_object_or_too_long_are_refused(host: AskingHost) -> None:
    assert "must be an object" in refusal(host, requestState=asked(host), inputResponses=[1])
    long = {"action": "accept", "content": {"ok": "x" * 20_000}}
    assert "longer than" in refusal(host, requestState=asked(host), inputResponses={"q0": long})


def test_legacy_request_ignores_what_it_does_not_know(host: AskingHost) -> None:
    host.begin("2025-03-26", {})
    params = {"name": "echo", "arguments": {"text": "a"}, "requestState": "x", "inputResponses": 5}
    assert text_of(host.request("tools/call", params)) == "a"
