"""Answers that are JSON, with the real engine: whatever the bundled model would rather say, they fit their schema."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest

from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
THING: Json = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": -3, "maximum": 120},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 1, "maxItems": 3},
        "round": {"type": "boolean"},
        "name": {"type": "string", "minLength": 2, "maxLength": 12},
        "size": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[0-9]{1,3} cm$"}]},
    },
    "required": ["color", "count", "tags", "round", "name", "size"],
    "additionalProperties": False,
}
TREE: Json = {
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {"branches": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}},
            "required": ["branches"],
        }
    },
    "$ref": "#/$defs/tree",
}
YES_OR_NO: Json = {"enum": ["yes", "no"]}


def asked(content: str) -> list[Json]:
    return [{"role": "user", "content": content}]


def form(schema: Json) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def batch(server: ServerProcess, contents: list[str], **arguments: Any) -> list[Json]:
    conversations = [asked(content) for content in contents]
    results: list[Json] = server.result("chat_completion_batch", {"conversations": conversations, **arguments})[
        "results"
    ]
    return results


def chat(server: ServerProcess, **arguments: Any) -> Json:
    return server.result("chat_completion", {"messages": asked("Hello"), **arguments})


def check(answer: Json, schema: Json) -> Any:
    assert answer["finish_reason"] == "stop", answer
    value = json.loads(answer["text"])
    jsonschema.validate(value, schema)
    return value


def test_hundred_answers_fit_their_schema(demo_server: ServerProcess) -> None:
    how: Json = {"temperature": 1, "max_tokens": 256, "response_format": form(THING)}
    contents = [f"Tell me about thing number {number}." for number in range(12)]
    answers = [answer for seed in range(8) for answer in batch(demo_server, contents, seed=seed, **how)]
    answers += [chat(demo_server, seed=seed, **how) for seed in range(4)]
    things = [check(answer, THING) for answer in answers]
    assert len(things) == 100
    assert len({json.dumps(thing) for thing in things}) > 20


@pytest.mark.parametrize("schema", [YES_OR_NO, {"type": "string", "enum": ["yes", "no"]}, {"const": 5}])
def test_choice_gives_a_member(demo_server: ServerProcess, schema: Json) -> None:
    how: Json = {"temperature": 2, "max_tokens": 16, "response_format": form(schema)}
    contents = ["Is the sky blue?", "What is your name?", "Count the circles."]
    for answer in [answer for seed in range(4) for answer in batch(demo_server, contents, seed=seed, **how)]:
        check(answer, schema)


def test_recursive_schema_is_followed(demo_server: ServerProcess) -> None:
    contents = [f"Draw tree number {number}." for number in range(8)]
    answers = batch(demo_server, contents, temperature=1, seed=1, max_tokens=300, response_format=form(TREE))
    ended = [answer for answer in answers if answer["finish_reason"] == "stop"]
    for answer in ended:
        check(answer, TREE)
    assert ended


def test_json_object_is_one_or_says_that_it_was_cut_off(demo_server: ServerProcess) -> None:
    contents = [f"Describe thing number {number} as JSON." for number in range(12)]
    answers = batch(demo_server, contents, temperature=1, max_tokens=100, response_format={"type": "json_object"})
    assert all(answer["text"].startswith("{") for answer in answers)
    for answer in answers:
        if answer["finish_reason"] == "stop":
            assert isinstance(json.loads(answer["text"]), dict)
        else:
            assert answer["finish_reason"] == "length"


def test_answer_that_is_cut_off_says_so(demo_server: ServerProcess) -> None:
    answer = chat(demo_server, max_tokens=4, response_format=form(THING))
    assert answer["finish_reason"] == "length"
    assert answer["text"].startswith('{"')


def test_form_holds_while_streaming_and_in_a_session_for_its_call_alone(demo_server: ServerProcess) -> None:
    arguments: Json = {"messages": asked("Hello"), "temperature": 0, "max_tokens": 256, "session_id": "json"}
    streamed = demo_server.call(
        "chat_completion", {**arguments, "response_format": form(THING)}, meta={"progressToken": 1}
    )
    check(streamed["result"]["structuredContent"], THING)
    later = demo_server.result("chat_completion", {**arguments, "messages": asked("What is in this image?")})
    assert not later["text"].startswith("{")
    assert later["session_messages"] == 4
    demo_server.call("delete_session", {"session_id": "json"})


def test_all_sampling_goes_with_a_form(demo_server: ServerProcess) -> None:
    how: Json = {
        "temperature": 1.5,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "presence_penalty": 2,
        "frequency_penalty": 2,
        "repetition_penalty": 1.5,
        "logprobs": True,
        "top_logprobs": 20,
    }
    answer = chat(demo_server, max_tokens=256, response_format=form(THING), **how)
    check(answer, THING)
    assert len(answer["logprobs"]["content"]) == answer["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "uniqueItems": True},
        {"type": "string", "pattern": "^((a{1000}){1000}){1000}$"},
        {"type": "string", "pattern": "(?=a)b"},
        {"enum": ["x" * 200_000]},
        {"x-guidance": {"lenient": True}},
        {"type": "array", "maxItems": "aa" + "–" * 200},
        {"type": "object", "properties": {"examples": {"type": "array", "minItems": 10**8}}, "required": ["examples"]},
        {"type": "array", "items": {"$ref": "#/const"}, "const": {"type": "array", "minItems": 10**8}},
    ],
    ids=[
        "type",
        "contradiction",
        "endless",
        "remote",
        "huge",
        "keyword",
        "bomb",
        "lookahead",
        "bytes",
        "options",
        "panic",
        "huge below a name",
        "huge in data",
    ],
)
def test_schema_that_cannot_be_followed_is_refused_and_the_engine_goes_on(
    demo_server: ServerProcess, schema: Json
) -> None:
    started_s = time.monotonic()
    for tool, what in (
        ("chat_completion", {"messages": asked("Hello")}),
        ("chat_completion_batch", {"conversations": [asked("Hello")] * 2}),
    ):
        result = demo_server.call(tool, {**what, "response_format": form(schema)})["result"]
        assert result["isError"], result
        (block,) = result["content"]
        assert block["text"].startswith("arguments.response_format.json_schema.schema: ")
    assert time.monotonic() - started_s < 10
    check(chat(demo_server, max_tokens=16, response_format=form(YES_OR_NO)), YES_OR_NO)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number"},
        {"type": "integer", "minimum": 0},
        {"type": ["number", "null"], "description": "How much."},
        {"type": "array", "prefixItems": [{"type": "number", "maximum": 7}], "items": False, "minItems": 1},
    ],
)
def test_every_number_comes_to_an_end(demo_server: ServerProcess, schema: Json) -> None:
    contents = ["How many?", "What is it?", "Count the circles."]
    how: Json = {"max_tokens": 40, "response_format": form(schema)}
    for temperature in (0, 2):
        for answer in batch(demo_server, contents, temperature=temperature, seed=3, **how):
            check(answer, schema)


def test_wrapper_around_a_reference_opens_no_object(demo_server: ServerProcess) -> None:
    size = {"type": "object", "properties": {"cm": {"enum": [1, 2]}}, "required": ["cm"]}
    wrapped = {"allOf": [{"$ref": "#/$defs/Size"}], "description": "How large it is."}
    schema = {"type": "object", "properties": {"size": wrapped}, "required": ["size"], "$defs": {"Size": size}}
    for answer in batch(
        demo_server, ["One", "Two"], temperature=2, seed=1, max_tokens=40, response_format=form(schema)
    ):
        assert set(check(answer, schema)["size"]) == {"cm"}


@pytest.mark.parametrize("pattern", ["^(a+)+b$", "(.*a){1,60}.{60}", "((a|b){1,1000}){1,1000}", ".*.*.*.*c"])
def test_hostile_pattern_neither_hangs_nor_breaks_the_engine(demo_server: ServerProcess, pattern: str) -> None:
    schema: Json = {"type": "string", "pattern": pattern}
    for answer in batch(
        demo_server, ["Hello", "What is it?"], temperature=2, seed=1, max_tokens=64, response_format=form(schema)
    ):
        if answer["error"] is None and answer["finish_reason"] == "stop":
            check(answer, schema)
    assert chat(demo_server, max_tokens=8)["text"]
