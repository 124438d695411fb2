"""Which schemas the engine takes, what it gets of them, and what becomes of an answer that broke off."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from engine.errors import GenerationFailed, InvalidGeneration
from engine.interface import Completion, Conversation, FinishReason, ResponseFormat, Sampling
from engine.prompts.structured_outputs import checked
from engine.schemas.bounds import bounded
from engine.schemas.checks import usable_schema
from engine.schemas.trial import problem_of

pytestmark = pytest.mark.slow

Json = dict[str, Any]
KINDS = ("string", "number")
TEXT: Json = {"type": "string"}
RECURSIVE: Json = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["next"],
        }
    },
    "$ref": "#/$defs/node",
}


def vet(schema: Json) -> None:
    """What a call's schema goes through: the cheap checks, then the trial that a child makes of it."""
    if (problem := problem_of(json.dumps(bounded(usable_schema(schema))))) is not None:
        raise InvalidGeneration(f"this schema cannot be used: {problem}.")


def closed(**properties: Any) -> Json:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def nested(levels: int) -> Json:
    """A schema of that many objects, one inside the other."""
    schema: Json = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"enum": ["yes", "no"]},
        {"const": {"$ref": "http://only.data/"}},
        {"type": ["string", "null"], "title": "t", "description": "d", "examples": [1], "unknown": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**64}, "maxItems": 10_000},
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "format": "date-time", "maxLength": 1_000_000},
        {"type": "string", "pattern": "^[a-z]{3}$"},
        {"type": "string", "pattern": "^(a+)+b$"},
        {"type": "string", "pattern": "(.*a){1,60}.{60}"},
        {"allOf": [{"type": "string"}, {"enum": ["yes", "no"]}]},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"oneOf": [{"type": "object", "properties": {"a": {"type": kind}}, "required": ["a"]} for kind in KINDS]},
        {"properties": {"a": {"type": "string", "format": "password"}, "b": {"type": "integer", "format": "int32"}}},
        {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "number"}},
        {"type": "array", "uniqueItems": False},
        {"$schema": "https://json-schema.org/draft-07/schema#", "type": "string"},
        {"$schema": "https://spec.openapis.org/oas/3.1/dialect/base", "type": "string"},
        {"properties": {f"n{i}": {"type": "number", "title": f"N{i}"} for i in range(400)}},
        {"properties": {f"n{i}": {"type": ["integer", "null"]} for i in range(400)}},
        {"$defs": {"a": {"$anchor": "x", "type": "string"}}, "$ref": "#x"},
        {"properties": {"a": {}}, "required": ["b"]},
        nested(64),
    ],
)
def test_schema_is_taken(schema: Json) -> None:
    pytest.importorskip("llguidance")
    vet(schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strin"}, "this schema cannot be used: invalid type: strin."),
        ({"properties": []}, "this schema cannot be used: properties must be an object."),
        ({"type": "object", "required": "a"}, "this schema cannot be used: expected array for 'required'"),
        ({"enum": []}, "this schema cannot be used: unsatisfiable schema: anyOf is empty."),
        (
            {"type": "string", "minLength": 5, "maxLength": 2},
            "this schema cannot be used: unsatisfiable schema: minLen",
        ),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "this schema cannot be used: unsatisfiable schema: minimum"),
        (
            {"type": "object", "properties": {"a": False}, "required": ["a"]},
            "this schema cannot be used: unsatisfiable",
        ),
        ({"not": {}}, 'this schema cannot be used: keywords that are not supported: ["not"].'),
        ({"if": TEXT, "then": TEXT}, 'this schema cannot be used: keywords that are not supported: ["if", "then"].'),
        ({"type": "array", "uniqueItems": True}, "this schema cannot be used: keywords that are not supported"),
        ({"propertyNames": {"maxLength": 2}}, "this schema cannot be used: keywords that are not supported"),
        ({"$dynamicRef": "#x"}, "this schema cannot be used: keywords that are not supported"),
        (
            {"oneOf": [TEXT, TEXT]},
            "this schema cannot be used: oneOf with overlapping alternatives is not supported; use",
        ),
        ({"type": "string", "format": "regex"}, "this schema cannot be used: unknown format: regex."),
        ({"type": "string", "pattern": "("}, "this schema cannot be used: regex parse error"),
        ({"type": "string", "pattern": "(?<=a)b"}, "this schema cannot be used: regex parse error: (?<=a)b"),
        ({"type": "string", "pattern": r"(a)\1"}, "this schema cannot be used: regex parse error"),
        ({"type": "string", "pattern": "^((a{1000}){1000}){1000}$"}, "this schema cannot be used: it is too complex"),
        (
            {"type": "string", "pattern": "(.*a){1,60}.{60}", "maxLength": 200},
            "this schema cannot be used: it is too complex",
        ),
        (
            {"$ref": "#"},
            "this schema cannot be used: it is too complex for the grammar backend, or nothing can satisfy it.",
        ),
        ({"$ref": "#/$defs/a"}, "this schema cannot be used: pointer '/$defs/a' does not exist."),
        ({"$schema": "http://127.0.0.1:1/s"}, "this schema cannot be used: resource 'http://127.0.0.1:1/s' is not"),
        ({"$ref": "http://127.0.0.1:1/s"}, "the schema refers to 'http://127.0.0.1:1/s'; a $ref must point into"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "the schema refers to 'file:///etc/passwd'; a $ref must point"),
        ({"type": "integer", "maximum": 10**400}, "this schema cannot be used: number out of range"),
        ({"enum": ["\ud800"]}, "this schema cannot be used: "),
        ({"type": "array", "minItems": 10**9}, "the sum of all minItems, maxItems, minProperties, maxProperties is"),
        (
            {"items": {"maxItems": 5001}, "maxItems": 5000},
            "the sum of all minItems, maxItems, minProperties, maxProperties",
        ),
        ({"type": "string", "maxLength": 1_000_001}, "minLength and maxLength may be at most 1000000."),
        ({"enum": ["x" * 100_000]}, "the schema has 100014 bytes; 100000 are allowed."),
        (nested(65), "the schema is nested too deeply; 64 levels are allowed."),
        ({"x-guidance": {"lenient": True}}, "the schema has the key 'x-guidance', which is not allowed."),
    ],
)
def test_schema_is_refused_at_once_with_the_reason(schema: Json, words: str) -> None:
    pytest.importorskip("llguidance")
    started_s = time.monotonic()
    with pytest.raises(InvalidGeneration) as caught:
        vet(schema)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started_s < 5


def test_nesting_that_no_recursion_could_follow_is_refused() -> None:
    with pytest.raises(InvalidGeneration, match="nested too deeply"):
        usable_schema(nested(100_000))


def test_recursion_that_can_end_is_taken_and_one_that_cannot_is_refused() -> None:
    pytest.importorskip("llguidance")
    vet(RECURSIVE)
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    with pytest.raises(InvalidGeneration, match="nothing can satisfy it"):
        vet(endless)


@pytest.mark.parametrize(
    ("schema", "seen"),
    [
        ({"properties": {"a": TEXT}}, {"properties": {"a": TEXT}, "additionalProperties": False}),
        ({"type": "object"}, {"type": "object"}),
        (
            {"properties": {"a": TEXT}, "additionalProperties": True},
            {"properties": {"a": TEXT}, "additionalProperties": True},
        ),
        (
            {"type": "array", "items": {"type": "object", "properties": {"properties": TEXT}}},
            {"type": "array", "items": closed(properties=TEXT)},
        ),
        (
            {"$defs": {"a": {"type": "object", "properties": {"b": TEXT}}}, "anyOf": [{"$ref": "#/$defs/a"}]},
            {"$defs": {"a": closed(b=TEXT)}, "anyOf": [{"$ref": "#/$defs/a"}]},
        ),
        ({"const": {"properties": {"a": 1}}}, {"const": {"properties": {"a": 1}}}),
        ({"properties": {"a": TEXT}, "required": ["b"]}, {"properties": {"a": TEXT}, "required": ["b"]}),
    ],
)
def test_objects_are_closed_where_that_cannot_contradict(schema: Json, seen: Json) -> None:
    assert usable_schema(schema) == seen


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b"]}]},
        {"properties": {"a": TEXT}, "anyOf": [{"properties": {"b": TEXT}}, {"properties": {"c": TEXT}}]},
    ],
)
def test_schemas_that_hold_together_stay_open(schema: Json) -> None:
    assert usable_schema(schema) == schema


# Answers that broke off

JSON = Conversation((), Sampling(0.0, 9), ResponseFormat())
FREE = Conversation((), Sampling(0.0, 9))


def test_answer_that_ended_by_itself_without_being_json_is_an_error() -> None:
    with pytest.raises(GenerationFailed, match="before its JSON was complete"):
        checked([JSON], [Completion('{"a')])
    good, broken, free = checked([JSON, JSON, FREE], [Completion("{}"), Completion('{"a'), Completion('{"a')])
    assert (good, free) == (Completion("{}"), Completion('{"a'))
    assert broken.text == ""
    assert broken.error is not None


@pytest.mark.parametrize("finish_reason", [FinishReason.LENGTH, FinishReason.TIMEOUT])
def test_answer_that_was_cut_off_says_so_itself(finish_reason: FinishReason) -> None:
    cut = Completion('{"a', finish_reason)
    assert checked([JSON], [cut]) == [cut]
    refused = Completion(error="refused")
    assert checked([JSON, JSON], [cut, refused]) == [cut, refused]
