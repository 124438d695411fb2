"""What servers do not take in a request: the request is sent once more without it, and that is remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import GenerationFailed, InvalidGeneration
from engine.interface import Control, ResponseFormat, Sampling
from engine.remote.engine import RemoteEngine
from engine.remote.refused_fields import MAX_MODELS, RefusedFields
from http_client.refusals import refusal
from tests.scripted_openai import Request, ScriptedOpenAI, answers, piece, streams
from tests.unit.engine.remote.samples import TOOL, answer, asked, engine_for

pytestmark = pytest.mark.slow

Json = dict[str, Any]


def openai(field: str, other: str = "") -> Json:
    """OpenAI's refusal of a field."""
    message = f"Unsupported parameter: '{field}' is not supported with this model."
    message += f" Use '{other}' instead." if other else ""
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": field, "code": "unsupported_parameter"}
    }


def fastapi(field: str) -> Json:
    """The refusal of a server that allows no field that it does not know."""
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}]}


class Picky:
    """A server that refuses some fields, in a form of its own."""

    def __init__(self, server: ScriptedOpenAI, body: Any, *fields: str, status: int = 400) -> None:
        self.fields = fields
        self._server, self._body, self._status = server, body, status
        server.script(self)

    def __call__(self, request: Request, fields: Json) -> None:
        refused = next((name for name in self.fields if name in fields), None)
        if refused is None:
            self._server.honest(request, fields)
        else:
            answers(json.dumps(self._body(refused)).encode(), self._status)(request, fields)


@pytest.fixture
def other(server: ScriptedOpenAI) -> Iterator[RemoteEngine]:
    """An engine over a server that is not vLLM."""
    server.owned_by = "acme"
    made = engine_for(server)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (openai, 400),
        (fastapi, 422),
        (lambda name: {"error": {"message": f"Unrecognized request argument supplied: {name}"}}, 400),
        (lambda name: {"error": {"message": f"property '{name}' is unsupported"}}, 400),
        (lambda name: [{"error": {"message": f'Invalid JSON payload received. Unknown name "{name}": no field'}}], 400),
        (lambda name: {"object": "error", "message": {"detail": fastapi(name)["detail"]}}, 422),
        (lambda name: {"message": f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}')}}]"}, 400),
        (lambda name: {"error": f"create() got an unexpected keyword argument '{name}'"}, 500),
    ],
)
@pytest.mark.parametrize("field", ["stream_options", "temperature", "seed", "top_p", "logprobs", "frequency_penalty"])
def test_field_that_is_refused_is_left_out(
    server: ScriptedOpenAI, other: RemoteEngine, body: Any, status: int, field: str
) -> None:
    Picky(server, body, field, status=status)
    sampling = Sampling(0.5, 16, top_p=0.5, seed=1, frequency_penalty=0.5, logprobs=2)
    completion = answer(other, sampling=sampling)
    assert completion.text == "one two"
    assert [field in chat for chat in server.chats()] == [True, False]
    assert ("top_logprobs" in server.chats()[1]) is (field != "logprobs")
    told = f"The server does not accept {field}" in "".join(completion.remarks)
    assert told is (field != "stream_options"), "a caller who may have asked for it is told"
    answer(other, sampling=sampling)
    assert [field in chat for chat in server.chats()] == [True, False, False], "it is remembered"


@pytest.mark.parametrize(
    "body",
    [
        lambda name: openai(name, "max_completion_tokens"),
        lambda name: {"error": {"message": "max_tokens is an invalid parameter: you must use max_completion_tokens"}},
        fastapi,
    ],
)
def test_length_is_asked_for_by_the_other_name(server: ScriptedOpenAI, other: RemoteEngine, body: Any) -> None:
    Picky(server, body, "max_tokens")
    assert answer(other).text == "one two"
    assert answer(other).text == "one two"
    sent = [(chat.get("max_tokens"), chat.get("max_completion_tokens")) for chat in server.chats()]
    assert sent == [(16, None), (None, 16), (None, 16)]


def test_server_that_knows_neither_name_is_not_asked_without_a_bound(
    server: ScriptedOpenAI, other: RemoteEngine
) -> None:
    Picky(server, openai, "max_tokens", "max_completion_tokens")
    with pytest.raises(InvalidGeneration, match="'max_completion_tokens' is not supported"):
        answer(other)
    assert len(server.chats()) == 2


def test_several_fields_are_learned_one_after_the_other(server: ScriptedOpenAI, other: RemoteEngine) -> None:
    Picky(server, openai, "max_tokens", "temperature", "stream_options", "seed")
    completion = answer(other, sampling=Sampling(0.5, 16, seed=1))
    assert completion.text == "one two"
    assert completion.remarks == ("The server does not accept temperature, seed: left out of the request.",)
    assert len(server.chats()) == 5


def test_server_that_cannot_stream_answers_at_once(server: ScriptedOpenAI, other: RemoteEngine) -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "at once"}, "finish_reason": "stop"}]}

    def organised(request: Request, fields: Json) -> None:
        if fields.get("stream"):
            answers(json.dumps(openai("stream")).encode(), 400)(request, fields)
        else:
            answers(json.dumps(whole).encode())(request, fields)

    server.script(organised)
    assert answer(other).text == "at once"
    assert "stream_options" not in server.chats()[-1]


@pytest.mark.parametrize("field", ["response_format", "tools", "tool_choice", "messages", "stop"])
def test_what_the_answers_meaning_depends_on_is_never_left_out(
    server: ScriptedOpenAI, other: RemoteEngine, field: str
) -> None:
    Picky(server, openai, field)
    rest: Json = {"tools": (TOOL,)} if field.startswith("tool") else {"response_format": ResponseFormat({})}
    with pytest.raises(InvalidGeneration, match=rf"\(HTTP 400\): Unsupported parameter: '{field}'"):
        answer(other, sampling=Sampling(0.0, 16, stop=("x",)), **rest)
    assert len(server.chats()) == 1


@pytest.mark.parametrize(
    "message",
    [
        "temperature: Input should be less than or equal to 1",
        "max_tokens is too large: 16. This model does not support more than 8 completion tokens",
        "temperature should be in [0.0, 2.0)",
        "seed must be between 0 and 9, others are not supported",
        "The image is not supported",
    ],
)
def test_wrong_value_is_told_and_not_left_out(server: ScriptedOpenAI, other: RemoteEngine, message: str) -> None:
    server.script(answers(json.dumps({"error": {"message": message}}).encode(), 400))
    with pytest.raises(InvalidGeneration, match="refuses this request"):
        answer(other, sampling=Sampling(1.5, 16, seed=1))
    assert len(server.chats()) == 1


def test_nothing_is_learned_once_text_has_come(server: ScriptedOpenAI, other: RemoteEngine) -> None:
    server.script(streams(piece(content="Good"), {**openai("temperature")}))
    with pytest.raises((GenerationFailed, InvalidGeneration), match="temperature"):
        answer(other, sampling=Sampling(0.5, 16))
    assert len(server.chats()) == 1


def test_what_is_learned_holds_for_one_model_and_is_bounded() -> None:
    known = RefusedFields()
    said = refusal(400, {}, openai("temperature"))
    for number in range(MAX_MODELS + 1):
        body = {"model": str(number), "temperature": 1.0, "messages": []}
        assert known.learn(body, body, said)
        assert not known.learn(body, known.without(body), said)
    assert known.without({"model": "0", "temperature": 1.0}) == {"model": "0", "temperature": 1.0}
    assert known.without({"model": "1", "temperature": 1.0}) == {"model": "1"}
    assert known.left_out({"model": "1", "temperature": 1.0}) == ("temperature",)


def test_several_conversations_learn_together(server: ScriptedOpenAI, other: RemoteEngine) -> None:
    Picky(server, openai, "max_tokens", "stream_options")
    completions = other.generate([asked(f"number {n}") for n in range(20)], Control())
    assert [completion.text for completion in completions] == [f"number {n}" for n in range(20)]


def test_of_two_that_exclude_each_other_one_is_left_out(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    said = {"error": {"message": "`temperature` and `top_p` cannot both be specified for this model."}}

    def chooses(request: Request, fields: Json) -> None:
        if {"temperature", "top_p"} <= fields.keys():
            answers(json.dumps(said).encode(), 400)(request, fields)
        else:
            server.honest(request, fields)

    server.script(chooses)
    completion = answer(engine, sampling=Sampling(0.5, 8, top_p=0.5))
    assert completion.remarks == ("The server does not accept top_p: left out of the request.",)
