"""Answers in all the forms that servers give them, through the engine over a scripted server."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from engine.errors import GenerationFailed, ServerBusy
from engine.interface import Control, FinishReason, ResponseFormat, Sampling, ToolCall
from engine.remote.engine import RemoteEngine
from tests.scripted_openai import Request, ScriptedOpenAI, answers, piece, streams, usage
from tests.unit.engine.remote.samples import DELTA, SAID, TOOL, Json, answer, call_piece, lines, raw

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((word, FinishReason.STOP) for word in ("eos", "END_TURN", "stop_sequence", "whatever", "FinishReason.STOP")),
        *((word, FinishReason.LENGTH) for word in ("max_tokens", "MAX_TOKENS", "model_length", "max-output-tokens")),
        *(
            (word, FinishReason.CONTENT_FILTER)
            for word in ("content_filter", "SAFETY", "sensitive", "content_filter: SPII")
        ),
        ("tool_use", FinishReason.STOP),
    ],
)
def test_every_word_for_the_end_is_one(
    server: ScriptedOpenAI, engine: RemoteEngine, word: str, reason: FinishReason
) -> None:
    server.script(streams(*SAID, piece(word), usage(), "[DONE]"))
    completion = answer(engine)
    assert (completion.text, completion.finish_reason) == ("Good day", reason)


@pytest.mark.parametrize(
    "events",
    [
        [*SAID, "[DONE]"],
        [*SAID, usage(), "[DONE]"],
        [*SAID, usage()],
        [piece("", content="Good"), piece("", content=" day"), piece(""), "[DONE]"],
        [piece("null", content="Good day"), "[DONE]"],
        [*SAID, {"choices": [{"index": 0, "finish_reason": "stop"}]}],
        [*SAID, piece("stop"), {"error": {"message": "too late", "code": 500}}],
    ],
)
def test_end_needs_no_word(server: ScriptedOpenAI, engine: RemoteEngine, events: list[Json | str]) -> None:
    server.script(streams(*events))
    assert answer(engine).text == "Good day"


def test_what_had_come_is_told_with_the_error(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    for events in ([*SAID], [*SAID, piece("abort")], [*SAID, {"error": "boom"}], [*SAID, "{not json"]):
        server.script(streams(*events))
        with pytest.raises(GenerationFailed, match=r"The text so far: Good day$"):
            answer(engine)


def test_end_that_is_named_in_every_event_is_none(
    server: ScriptedOpenAI, engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.remote.client.AFTER_END_S", 0.3)
    events = [piece("stop", reasoning="Hm"), piece("stop", content="Good"), piece("stop", content=" day")]

    def pauses(request: Request, fields: Json) -> None:
        request.begin()
        for event, wait_s in zip(events, (0.6, 0.0, 0.0), strict=True):
            request.event(event)
            time.sleep(wait_s)

    server.script(pauses)
    completion = answer(engine)
    assert (completion.text, completion.reasoning) == ("Good day", "Hm")


@pytest.mark.parametrize(
    "delta",
    [
        {"content": [{"type": "text", "text": "Good"}, {"type": "text", "text": " day"}]},
        {"content": ["Good", " day"]},
        {"content": {"type": "text", "text": "Good day"}},
        {"content": [{"type": "text", "text": {"value": "Good day", "annotations": []}}]},
        {"content": "Good day", "role": 5, "tool_calls": "none", "refusal": [], "reasoning": {}},
        {"content": "Good day", "function_call": None, "audio": {"id": 1}},
        {"text": "Good day"},
    ],
)
def test_words_are_found_in_any_delta(server: ScriptedOpenAI, engine: RemoteEngine, delta: Json) -> None:
    server.script(streams({"choices": [{"delta": delta}]}, piece("stop")))
    assert answer(engine).text == "Good day"


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"text": "Good day", "finish_reason": "stop"}]},
        {"choices": [{"message": DELTA, "finish_reason": "stop"}]},
        {"choices": {"delta": DELTA, "finish_reason": "stop"}},
        {"data": {"choices": [{"delta": DELTA, "finish_reason": "stop"}]}},
        {
            "choices": [{"delta": DELTA, "finish_reason": {"type": "stop"}, "index": "0", "logprobs": []}],
            "created": "x",
        },
        {"choices": [{"delta": DELTA, "finish_reason": "stop"}], "usage": "none", "error": None, "id": None},
        {
            "choices": [{"delta": DELTA, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": None, "total_tokens": None},
        },
        {"model": "m", "message": DELTA, "done": True, "done_reason": "stop"},
        {"model": "m", "response": "Good day", "done": True},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Good day"}]},
        {"output": {"choices": [{"message": {"content": [{"text": "Good day"}]}, "finish_reason": "stop"}]}},
    ],
)
def test_words_are_found_in_any_event(server: ScriptedOpenAI, engine: RemoteEngine, event: Json) -> None:
    server.script(streams(event))
    assert answer(engine).text == "Good day"


def test_thoughts_are_kept_apart_in_every_form(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    for delta in (
        {"thinking": "hm"},
        {"reasoning": {"text": "hm"}},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": [{"type": "reasoning", "text": "hm"}]},
        {"content": None, "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
    ):
        server.script(streams({"choices": [{"delta": delta}]}, *SAID, piece("stop")))
        completion = answer(engine)
        assert (completion.text, completion.reasoning) == ("Good day", "hm"), delta


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"prompt_tokens": "5", "completion_tokens": 2.0}, (5, 2)),
        ({"input_tokens": 5, "output_tokens": 2}, (5, 2)),
        ({"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": "none"}, (5, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": "many"}}, (5, 2)),
    ],
)
def test_counts_are_read_in_any_form(
    server: ScriptedOpenAI, engine: RemoteEngine, counts: Json, told: tuple[int, int]
) -> None:
    server.script(streams(*SAID, piece("stop"), {"choices": [], "usage": counts}))
    completion = answer(engine)
    assert (completion.text, completion.prompt_tokens, completion.completion_tokens) == ("Good day", *told)


def test_text_before_a_filter_is_the_answer_and_none_is_an_error(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(*SAID, piece("content_filter")))
    completion = answer(engine)
    assert (completion.text, completion.finish_reason) == ("Good day", FinishReason.CONTENT_FILTER)
    server.script(streams(piece(content=""), piece("SAFETY")))
    with pytest.raises(GenerationFailed, match="content filter withheld"):
        answer(engine)


def called(server: ScriptedOpenAI, engine: RemoteEngine, *events: Json) -> tuple[ToolCall, ...]:
    server.script(streams(*events, piece("tool_calls"), "[DONE]"))
    return answer(engine, tools=(TOOL,)).tool_calls


def part(arguments: Any = None, **rest: Any) -> Json:
    """A piece of a call as it is, without a number unless one is given."""
    function = {"name": rest.pop("name")} if "name" in rest else {}
    return piece(tool_calls=[{**rest, "function": {**function, "arguments": arguments}}])


@pytest.mark.parametrize(
    "events",
    [
        [call_piece(0, '{"n":1}', id="a", name="weather"), call_piece(0, '{"n":2}', id="b", name="weather")],
        [part('{"n":1}', id="a", name="weather"), part('{"n":2}', id="b", name="weather")],
        [part('{"n"', id="a", name="weather"), part(":1}"), part('{"n"', id="b", name="weather"), part(":2}")],
        [part(None, id="a", name="weather"), part(None, id="b", name="weather"), part('{"n":1}', id="a"),
         part('{"n":2}', id="b")],
        [part({"n": 1}, id="a", name="weather", index="0"), part({"n": 2}, id="b", name="weather", index="1")],
        [part("", id="a", name="weather", index=0), part('{"n":1}', index=0), part("", id="b", name="weather", index=0),
         part('{"n":2}', index=1)],
        [part('{"n":1}', id="a", name="weather", index=3), part('{"n":2}', id="b", name="weather", index=7)],
    ],
)  # fmt: skip
def test_calls_are_told_apart_by_their_ids(server: ScriptedOpenAI, engine: RemoteEngine, events: list[Json]) -> None:
    found = called(server, engine, *events)
    assert [(call.id, json.loads(call.arguments)) for call in found] == [("a", {"n": 1}), ("b", {"n": 2})]


def test_calls_without_ids_and_with_ever_new_ones(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    found = called(server, engine, part('{"n":1}', name="weather"), part('{"n":2}', name="weather"))
    assert [json.loads(call.arguments) for call in found] == [{"n": 1}, {"n": 2}]
    found = called(
        server, engine, part('{"n"', id="a", name="weather", index=0), part(":1", id="x", index=0), part("}", id="y")
    )
    assert [(call.id, call.arguments) for call in found] == [("a", '{"n":1}')]
    older = {"choices": [{"delta": {"function_call": {"name": "weather", "arguments": '{"n":1}'}}}]}
    assert [call.name for call in called(server, engine, older)] == ["weather"]


def test_endless_calls_end(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(*(call_piece(n, "{}", id=str(n), name="weather") for n in range(200)), piece("tool_calls")))
    with pytest.raises(GenerationFailed, match="more than 128 tool calls"):
        answer(engine, tools=(TOOL,))


def test_json_in_a_code_block_is_taken_out_and_other_text_is_told(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(piece(content='```json\n{"a": 1}\n```'), piece("stop")))
    assert answer(engine, response_format=ResponseFormat({"type": "object"})).text == '{"a": 1}'
    server.script(streams(piece(content="I would rather not."), piece("stop")))
    with pytest.raises(GenerationFailed, match=r"not the JSON that response_format asks for.*I would rather not\."):
        answer(engine, response_format=ResponseFormat({"type": "object"}))


def test_error_with_status_200_is_told_with_its_reason(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    for body, told in (
        ({"error": {"message": "Credits are used up", "code": 402}}, r"requires payment \(HTTP 402\): Credits"),
        ({"error": "model is asleep"}, "model is asleep"),
        ({"detail": "no such thing"}, "no such thing"),
        ({"object": "error", "message": "bad luck"}, "bad luck"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, r"does not accept the key .* login fail\."),
        ({"error_code": 336003, "error_msg": "an odd number", "id": "1"}, "an odd number"),
        ({"ok": False, "reason": "the worker is gone"}, "the worker is gone"),
        ({"status_code": 500, "message": "it fell over", "choices": []}, "it fell over"),
        ({"choices": [{"message": {}, "finish_reason": "error", "error": {"message": "no luck"}}]}, "no luck"),
    ):
        server.script(raw(json.dumps(body), "application/json"))
        with pytest.raises(Exception, match=told):
            answer(engine)


@pytest.mark.parametrize("status", [502, 504, 529])
def test_server_behind_a_gateway_is_asked_again(
    server: ScriptedOpenAI, engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("engine.remote.client.FIRST_WAIT_S", 0.02)
    refused = answers(b"<html><title>Oh no</title></html>", status)
    server.script(refused, refused, server.honest)
    assert answer(engine).text == "one two"
    server.script(refused)
    with pytest.raises(ServerBusy, match=rf"failed \(HTTP {status}\): Oh no\. Try again\."):
        answer(engine)
    assert len(server.chats()) == 6


@pytest.mark.parametrize(
    "last",
    [
        'data: {"message": "The card is gone"}',
        "data: The card is gone",
        'data: {"error": {"message": "The card is gone"}}',
    ],
)
def test_event_that_is_called_an_error_is_one(server: ScriptedOpenAI, engine: RemoteEngine, last: str) -> None:
    for begun in (lines(*SAID), ""):
        server.script(raw(f"{begun}event: error\n{last}\n\n"))
        with pytest.raises(GenerationFailed, match="The card is gone" + (".*Good day" if begun else "")):
            answer(engine)


def test_last_words_and_the_reason_may_share_an_event(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    broken = {**piece("error", content=" day"), "error": {"message": "The card is gone"}}
    server.script(streams(SAID[0], broken, "[DONE]"))
    with pytest.raises(GenerationFailed, match=r"The card is gone.*Good day"):
        answer(engine)


def test_nothing_is_asked_again_once_text_has_come(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(*SAID, {"error": {"message": "overloaded", "code": 503}}))
    with pytest.raises(GenerationFailed, match=r"overloaded.*Good day"):
        answer(engine)
    assert len(server.chats()) == 1


def test_listener_hears_all_of_an_odd_answer(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    told: list[str] = []
    server.script(raw(json.dumps({"choices": [{"message": DELTA}]}), "application/json"))
    answer(engine, Control(on_text=lambda index, text, n: told.append(text)), sampling=Sampling(0.0, 8))
    assert "".join(told) == "Good day"
