"""Answers in all the forms that servers give them, through the engine over a scripted server."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any

import pytest

from engine.errors import GenerationFailed, ServerBusy
from engine.event_stream import MAX_EVENT_BYTES, EventStream
from engine.interface import Control, FinishReason, ResponseFormat, Sampling, ToolCall
from engine.remote import RemoteEngine
from tests.fuzz.provider_streams import run
from tests.scripted_openai import Request, Route, ScriptedOpenAI, answers, piece, streams, usage
from tests.unit.engine.remote.samples import TOOL, answer, call_piece

Json = dict[str, Any]
SAID: list[Json] = [piece(content="Good"), piece(content=" day")]
DELTA = {"role": "assistant", "content": "Good day"}


def raw(body: str | bytes, content_type: str = "text/event-stream", **headers: str) -> Route:
    """A route that sends a whole body, its length told."""
    return answers(body if isinstance(body, bytes) else body.encode(), 200, Content_Type=content_type, **headers)


def lines(*events: Json | str, prefix: str = "data: ", end: str = "\n\n") -> str:
    """Events as text."""
    return "".join(prefix + (each if isinstance(each, str) else json.dumps(each)) + end for each in events)


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


def test_end_of_a_body_whose_length_was_told_is_an_end(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(raw(lines(*SAID)))
    assert answer(engine).text == "Good day"


def test_what_had_come_is_told_with_the_error(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    for events in ([*SAID], [*SAID, piece("abort")], [*SAID, {"error": "boom"}], [*SAID, "{not json"]):
        server.script(streams(*events))
        with pytest.raises(GenerationFailed, match=r"What had come of the answer until then: Good day$"):
            answer(engine)


def test_gaps_are_told(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(SAID[0], '{"choices": [{"delta": {"content": " grey', SAID[1], piece("stop"), "[DONE]"))
    completion = answer(engine)
    assert completion.text == "Good day"
    assert completion.remarks == ("Some of the answer's events could not be read (1): it may have gaps.",)


def test_connection_that_breaks_behind_the_end_takes_nothing_away(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    def cut_short(request: Request, fields: Json) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Content-Length", "100000")
        request.end_headers()
        request.wfile.write(lines(*SAID, piece("stop")).encode().rstrip())
        request.close_connection = True

    server.script(cut_short)
    assert answer(engine).text == "Good day"


@pytest.mark.parametrize(
    "events",
    [
        [*SAID, piece("stop")],
        [SAID[0], piece("stop", content=" day")],
        [*SAID, piece("stop"), usage()],
        [*SAID, piece("stop"), piece("stop")],
        [piece("stop", reasoning="Hm"), piece("stop", content="Good"), piece("stop", content=" day"), piece("stop")],
        [{"choices": [{"index": 0, "message": DELTA, "finish_reason": "stop"}]}],
    ],
)
def test_answer_is_not_waited_for_beyond_its_end(
    server: ScriptedOpenAI, engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch, events: list[Json | str]
) -> None:
    monkeypatch.setattr("engine.openai_client.AFTER_END_S", 0.1)

    def stays(request: Request, fields: Json) -> None:
        streams(*events)(request, fields)
        while not request.is_hung_up_on(0.05):
            request.wfile.write(b": still here\n\ndata: {}\n\n")

    engine.load()
    server.script(stays)
    started_s = time.monotonic()
    assert answer(engine).text == "Good day"
    assert time.monotonic() - started_s < 4


def test_end_that_is_named_in_every_event_is_none(
    server: ScriptedOpenAI, engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.openai_client.AFTER_END_S", 0.3)
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


@pytest.mark.parametrize(
    "body",
    [
        "\ufeff" + lines(*SAID, piece("stop"), "[DONE]"),
        lines(*SAID, piece("stop"), "[DONE]", end="\r\n\r\n"),
        lines(*SAID, piece("stop"), "[DONE]", end="\r\r"),
        lines(*SAID, piece("stop"), "[DONE]", prefix="data:", end="\n"),
        lines(*SAID, piece("stop"), prefix=""),
        lines(*SAID, piece("stop"), "[DONE]", prefix="data: data: "),
        lines(*SAID, piece("stop")).rstrip(),
        ": hello\n\nretry: 3000\nid: 1\nevent: message\n" + lines(*SAID, '"ping"', "null", "[]", "{}", piece("stop")),
        lines(SAID[0], "keep-alive", '{"message": "still at it"}', SAID[1], "[DONE]"),
        "data: "
        + json.dumps({"choices": [{"delta": DELTA}]}, indent=1).replace("\n", "\ndata: ")
        + "\n\ndata: [DONE]\n\n",
        json.dumps({"choices": [{"message": DELTA, "finish_reason": "stop"}]}),
        json.dumps({"choices": [{"message": DELTA, "finish_reason": "stop"}]}, indent=2),
        json.dumps([*SAID, piece("stop")], indent=2),
    ],
)
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain", "text/html"])
def test_stream_is_read_however_it_is_written(
    server: ScriptedOpenAI, engine: RemoteEngine, body: str, content_type: str
) -> None:
    server.script(raw(body, content_type))
    assert answer(engine).text == "Good day"


def test_compressed_answers_are_read(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    body = lines(*SAID, piece("stop"), usage(), "[DONE]").encode()
    for encoding, data in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        server.script(raw(data, Content_Encoding=encoding))
        assert answer(engine).text == "Good day"


def test_damage_behind_the_first_words_is_a_lost_connection(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    packer = zlib.compressobj(wbits=31)
    data = packer.compress(lines(*SAID).encode()) + packer.flush(zlib.Z_SYNC_FLUSH)

    def damaged(request: Request, fields: Json) -> None:
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(data)
        request.wfile.flush()
        time.sleep(0.2)
        request.wfile.write(b"\xff" * 100)

    server.script(damaged)
    with pytest.raises(GenerationFailed, match=r"was lost .* until then: Good day$"):
        answer(engine)


def test_bomb_is_not_unpacked(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(raw(gzip.compress(b"data: " + bytes(3 * MAX_EVENT_BYTES)), Content_Encoding="gzip"))
    with pytest.raises(GenerationFailed, match="longer than it can be"):
        answer(engine)


def test_text_before_a_filter_is_the_answer_and_none_is_an_error(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(*SAID, piece("content_filter")))
    completion = answer(engine)
    assert (completion.text, completion.finish_reason) == ("Good day", FinishReason.CONTENT_FILTER)
    server.script(streams(piece(content=""), piece("SAFETY")))
    with pytest.raises(GenerationFailed, match="content filter withheld"):
        answer(engine)


# Calls


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


# JSON


def test_json_in_a_code_block_is_taken_out_and_other_text_is_told(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(piece(content='```json\n{"a": 1}\n```'), piece("stop")))
    assert answer(engine, response_format=ResponseFormat({"type": "object"})).text == '{"a": 1}'
    server.script(streams(piece(content="I would rather not."), piece("stop")))
    with pytest.raises(GenerationFailed, match=r"not the JSON that response_format asks for.*I would rather not\."):
        answer(engine, response_format=ResponseFormat({"type": "object"}))


# Errors in the place of answers, and servers that cannot answer now


def test_error_with_status_200_is_told_with_its_reason(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    for body, told in (
        ({"error": {"message": "Credits are used up", "code": 402}}, r"wants to be paid first \(HTTP 402\): Credits"),
        ({"error": "model is asleep"}, "model is asleep"),
        ({"detail": "no such thing"}, "no such thing"),
        ({"object": "error", "message": "bad luck"}, "bad luck"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, r"does not take the key .* login fail\."),
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
    monkeypatch.setattr("engine.openai_client.FIRST_WAIT_S", 0.02)
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


# The cutting of streams


def test_lines_that_never_end_are_bounded() -> None:
    events = EventStream(1 << 30)
    assert list(events.feed(b"data: {" + b"{" * 100 + b"\n")) == []
    assert list(events.feed((b"data: {" + b"{" * 100 + b"\n") * 50_000)) == []
    with pytest.raises(GenerationFailed, match="longer than it can be"):
        list(events.feed(b"data: {\n"))


def test_broken_events_take_no_time() -> None:
    started_s = time.monotonic()
    events = EventStream(1 << 30)
    list(events.feed(b'data: {"a": [\n' + b"data: 1,}\n" * 200_000))
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize("seed", range(3))
def test_text_that_has_come_is_never_an_error(seed: int) -> None:
    tally = run(400, seed)
    assert tally.finding is None
    assert tally.n_whole > 200
