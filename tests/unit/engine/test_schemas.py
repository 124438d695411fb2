"""What a look at a schema finds, wherever it stands, and which objects and numbers are closed and bounded by it."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import InvalidGeneration
from engine.prompts.forced_calls import schema_of
from engine.schemas.bounds import bounded
from engine.schemas.checks import closed, usable_schema
from engine.schemas.tree import SchemaTree

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
LARGE: Json = {"type": "array", "minItems": 10**9}
KEYWORDS = ("default", "const", "enum", "examples", "properties", "items", "$defs", "allOf", "not", "title", "required")


@pytest.mark.parametrize("name", KEYWORDS)
def test_counts_are_seen_below_any_name(name: str) -> None:
    for schema in (
        {"properties": {name: LARGE}},
        {"$defs": {name: {"properties": {name: LARGE}}}},
        {"patternProperties": {name: {"items": [LARGE]}}},
        {"dependentSchemas": {name: LARGE}},
    ):
        with pytest.raises(InvalidGeneration, match="is 1000000000"):
            usable_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        *({"properties": {"a": {keyword: LARGE}}} for keyword in ("not", "if", "then", "else", "contains", "items")),
        *({keyword: LARGE} for keyword in ("propertyNames", "unevaluatedItems", "additionalItems", "contentSchema")),
        *({keyword: [LARGE]} for keyword in ("allOf", "prefixItems", "items")),
        {"minContains": 20_000},
        {"$ref": "#/default", "default": LARGE},
        {"$ref": "#/examples/1", "examples": [1, LARGE]},
        {"$ref": "#/const/a~1b/m~0n", "const": {"a/b": {"m~n": LARGE}}},
        {"$ref": "#/enum/0/per%25cent", "enum": [{"per%cent": LARGE}]},
        {"$ref": "#/%24defs/x", "$defs": {"x": {"$ref": "#/x-note"}}, "x-note": {"items": LARGE}},
        {"$dynamicRef": "#/default", "default": LARGE},
        {"$ref": "#here", "default": {"$anchor": "here", **LARGE}},
        {"properties": {"a": {"$id": "http://base/", "$ref": "#/const"}}, "const": LARGE, "not": {}},
        {"$ref": "#/properties", "properties": {"items": LARGE}},
    ],
)
def test_counts_are_seen_wherever_a_schema_stands(schema: Json) -> None:
    with pytest.raises(InvalidGeneration, match="the sum of all"):
        usable_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"const": LARGE},
        {"properties": {"a": {"default": LARGE, "examples": [LARGE], "enum": [LARGE, 1]}}},
        {"properties": {"minItems": {"type": "integer"}}},
        {"required": ["minItems"], "x-note": LARGE},
        {"minItems": True, "items": False, "additionalProperties": True, "not": False},
    ],
)
def test_data_are_not_counted(schema: Json) -> None:
    usable_schema(schema)


@pytest.mark.parametrize("count", [10**400, 1e300, float("inf")])
def test_a_count_may_be_too_large_for_any_sum(count: float) -> None:
    with pytest.raises(InvalidGeneration, match="the sum of all"):
        usable_schema({"minItems": count, "maxItems": count})


def test_a_reference_elsewhere_is_refused_also_in_data_that_are_referred_to() -> None:
    with pytest.raises(InvalidGeneration, match="must point into the schema itself"):
        usable_schema({"$ref": "#/default", "default": {"$ref": "file:///etc/passwd"}})


def chain(n: int, keyword: str = "allOf") -> Json:
    """Definitions of which each holds the next one twice."""
    links: Json = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * 2, "required": []} for i in range(n)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{n}": {"type": "object", "properties": {"a": TEXT}}}}


SCHEMAS_BY_SIZE: dict[str, Callable[[int], Json]] = {
    "chain of allOf": chain,
    "chain of anyOf": lambda n: chain(n, "anyOf"),
    "references to a list": lambda n: {"anyOf": [{"$ref": "#/examples"}] * 3 * n, "examples": [{}] * 3 * n},
    "references to the root": lambda n: {"allOf": [{"$ref": "#"}] * 3 * n},
    "references to properties": lambda n: {"properties": {f"p{i}": {"$ref": "#/properties"} for i in range(2 * n)}},
    "long reference": lambda n: {"anyOf": [{"$ref": "#" + "/x" * 40 * n}]},
    "references to a long reference": lambda n: {
        "items": [{"$ref": "#/a", "required": ["n"]}] * n,
        "a": {"$ref": "#" + "/b" * 20 * n, "allOf": [{}] * n},
        "b": {},
    },
    "references to a long list": lambda n: {
        "items": [{"$ref": "#/a", "required": ["n"]}] * n,
        "a": {"allOf": [{}] * 9 * n},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS_BY_SIZE)
def test_checking_a_schema_takes_time_in_proportion_to_its_size(name: str) -> None:
    """Four times the size takes about four times as long, sixteen times if the time were quadratic."""

    def seconds(schema: Json) -> float:
        began_s = time.thread_time()
        bounded(usable_schema(schema))
        return time.thread_time() - began_s

    small, large = (SCHEMAS_BY_SIZE[name](n) for n in (250, 1_000))
    # Both are measured in turns, so that a slow phase of the machine hits both; the fastest of each counts.
    times = [(seconds(small), seconds(large)) for _ in range(5)]
    small_s, large_s = (min(column) for column in zip(*times, strict=True))
    assert large_s < 10 * small_s


def test_references_in_a_circle_come_to_an_end() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert bounded(usable_schema(schema)) == schema


# Which objects are closed

CLOSED = {"type": "object", "properties": {"n": TEXT}, "additionalProperties": False}
OPEN = {"type": "object", "properties": {"n": TEXT}}
WRAPPED = {"allOf": [{"$ref": "#/$defs/Size"}], "description": "How large."}


@pytest.mark.parametrize(
    "wrapper",
    [
        WRAPPED,
        {"anyOf": [WRAPPED, {"type": "null"}], "default": None},
        {"type": "array", "items": WRAPPED},
        {"allOf": [{"$ref": "#/$defs/Size"}, {"description": "No more than words."}]},
        {"oneOf": [WRAPPED], "discriminator": {"propertyName": "n"}},
        {"$ref": "#/$defs/Size", "description": "How large.", "type": "object"},
        {"allOf": [{"allOf": [{"$ref": "#/$defs/Size"}]}]},
    ],
)
def test_a_wrapper_around_one_schema_leaves_it_closed(wrapper: Json) -> None:
    schema = {"properties": {"size": wrapper}, "$defs": {"Size": OPEN}}
    assert closed(schema) == {"properties": {"size": wrapper}, "$defs": {"Size": CLOSED}, "additionalProperties": False}


PAIR: Json = {"type": "object", "properties": {"n": TEXT, "m": TEXT}}
EITHER: Json = {"anyOf": [{"required": ["n"]}, {"required": ["m"], "type": "object"}]}


@pytest.mark.parametrize(
    "beside",
    [
        {**PAIR, **EITHER},
        {**PAIR, "allOf": [{"required": ["n"]}, {"required": ["m"]}]},
        {"allOf": [PAIR, {"required": ["n"]}]},
        {"allOf": [PAIR], "required": ["n"]},
        {"allOf": [{"$ref": "#/$defs/Pair"}, {"required": ["n"]}]},
        {"$ref": "#/$defs/Pair", "required": ["n", "m"]},
    ],
)
def test_a_schema_that_only_asks_for_listed_properties_opens_no_object(beside: Json) -> None:
    seen = closed({"items": beside, "$defs": {"Pair": PAIR}})
    assert seen["$defs"]["Pair"] == {**PAIR, "additionalProperties": False}
    assert json.dumps(seen["items"]).count("additionalProperties") == ("$ref" not in json.dumps(beside))


@pytest.mark.parametrize(
    "beside",
    [
        {**PAIR, "anyOf": [{"required": ["n"]}, {"required": ["k"]}]},
        {"allOf": [PAIR, {"required": ["k"]}]},
        {"allOf": [PAIR], "required": ["k"]},
        {"$ref": "#/$defs/Pair", "required": ["k"]},
        {"$ref": "#/$defs/Pair", "required": ["n"], "properties": {"k": TEXT}},
        {**PAIR, "anyOf": [{"required": ["n"]}, {"properties": {"k": TEXT}}]},
    ],
)
def test_one_that_asks_for_others_leaves_it_open(beside: Json) -> None:
    given = {"items": beside, "$defs": {"Pair": PAIR}, "properties": {"a": {"$ref": "#/$defs/Pair"}}}
    seen = closed(json.loads(json.dumps(given)))
    assert seen["items"] == beside
    assert ("$ref" in beside) == (seen["$defs"]["Pair"] == PAIR)


@pytest.mark.parametrize(
    "beside",
    [
        {"allOf": [{"$ref": "#/$defs/Size"}, {"properties": {"m": TEXT}}]},
        {"allOf": [{"$ref": "#/$defs/Size"}], "properties": {"m": TEXT}},
        {"$ref": "#/$defs/Size", "required": ["m"]},
        {"anyOf": [{"$ref": "#/$defs/Size"}], "oneOf": [{"properties": {"m": TEXT}}]},
        {"allOf": [{"anyOf": [{"$ref": "#/$defs/Size"}]}, {"$ref": "#/$defs/Other"}]},
        {"if": {"$ref": "#/$defs/Size"}, "then": {"properties": {"m": TEXT}}},
    ],
)
def test_only_objects_of_which_two_schemas_speak_stay_open(beside: Json) -> None:
    other = {"type": "object", "properties": {"k": OPEN}}
    given = {"properties": {"both": beside, "alone": OPEN}, "$defs": {"Size": OPEN, "Other": other}}
    seen = closed(json.loads(json.dumps(given)))
    assert seen["properties"]["alone"] == CLOSED
    assert seen["additionalProperties"] is False
    assert seen["$defs"]["Size"] == OPEN
    assert seen["properties"]["both"] == beside


def test_schemas_below_other_names_are_closed_where_a_reference_finds_them() -> None:
    named: Json = {"Size": OPEN, "b": {"properties": {}}}
    seen = closed({"items": {"$ref": "#/components/schemas/Size"}, "components": {"schemas": named}})
    assert seen["components"]["schemas"] == {**named, "Size": CLOSED}
    assert closed({"items": {"$ref": "#/enum/0"}, "enum": [OPEN]})["enum"] == [OPEN]
    assert bounded({"$ref": "#/x/0", "x": [{"type": "integer"}]})["x"] == [{"$ref": "#/$defs/number1"}]


def test_what_lies_inside_such_objects_stays_open_too() -> None:
    inner = {"allOf": [{"properties": {"a": OPEN}}, {"properties": {"a": {"properties": {"m": TEXT}}}}]}
    assert closed(inner) == inner
    by_pattern = {"properties": {"ab": OPEN}, "patternProperties": {"^a": {"properties": {"m": TEXT}}}}
    assert closed(by_pattern) == {**by_pattern, "additionalProperties": False}


def test_what_lies_inside_a_value_that_is_given_whole_is_not_bounded() -> None:
    given = {"anyOf": [{"enum": [{"a": 10**19}]}], "properties": {"a": {}}}
    assert bounded(given) == given


def test_an_object_that_is_given_whole_stays_open() -> None:
    given = {"properties": {"a": TEXT}, "const": {"a": "x", "b": 1}}
    assert closed(given) == given


def test_schemas_are_not_changed_in_place() -> None:
    given = {"properties": {"a": WRAPPED, "b": {}}, "$defs": {"Size": OPEN}}
    before = copy.deepcopy(given)
    bounded(closed(given))
    assert given == before


# Bounds of numbers

WHOLE = {"minimum": -(10**18), "maximum": 10**18}
ANY = {**WHOLE, "multipleOf": 1e-9, "additionalProperties": {"$ref": "#/$defs/any"}, "items": {"$ref": "#/$defs/any"}}


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"type": "integer"}, {"type": "integer", **WHOLE}),
        ({"type": "integer", "minimum": 3}, {"type": "integer", "minimum": 3, "maximum": 10**18}),
        ({"type": "number", "maximum": 2.5}, {"type": "number", **WHOLE, "maximum": 2.5, "multipleOf": 1e-9}),
        ({"type": "number", "multipleOf": 0.5}, {"type": "number", **WHOLE, "multipleOf": 0.5}),
        ({"type": "number", "minimum": 0, "maximum": 1e-6}, {"type": "number", "minimum": 0, "maximum": 1e-6}),
        ({"type": "integer", "minimum": 10**17}, {"type": "integer", "minimum": 10**17}),
        ({"type": "number", "enum": [1e-12]}, {"type": "number", "enum": [1e-12]}),
        ({"type": "string"}, {"type": "string"}),
        ({}, {**ANY, "$defs": {"any": ANY}}),
        (
            {"type": "array", "items": True, "$defs": {"any": TEXT}},
            {
                "type": "array",
                "items": {"$ref": "#/$defs/any_"},
                "$defs": {"any": TEXT, "any_": json.loads(json.dumps(ANY).replace("/any", "/any_"))},
            },
        ),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
        (
            {"allOf": [{"type": "integer", "minimum": 0}, {"minimum": 10**18 + 1}]},
            {"allOf": [{"type": "integer", "minimum": 0}, {"minimum": 10**18 + 1}]},
        ),
    ],
)
def test_numbers_get_the_bounds_that_they_lack(given: Json, seen: Json) -> None:
    assert bounded(given) == seen


def test_a_number_that_is_asked_for_often_is_written_once() -> None:
    commented: Json = {"type": "integer", "$comment": "It has more than a reference may stand for."}
    given: Json = {
        "properties": {
            "a": {"type": "number", "title": "A"},
            "b": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "c": {"description": "Anything."},
            "d": commented,
        }
    }
    to_number = {"$ref": "#/$defs/number1"}
    assert bounded(closed(given)) == {
        "properties": {
            "a": {"title": "A", **to_number},
            "b": {"anyOf": [to_number, {"type": "null"}]},
            "c": {"description": "Anything.", "$ref": "#/$defs/any"},
            "d": {**commented, **WHOLE},
        },
        "additionalProperties": False,
        "items": {"$ref": "#/$defs/any"},
        "minimum": WHOLE["minimum"],
        "maximum": WHOLE["maximum"],
        "multipleOf": 1e-9,
        "$defs": {"any": ANY, "number1": {"type": "number", **WHOLE, "multipleOf": 1e-9}},
    }


def test_formats_that_json_schema_does_not_define_are_left_out_where_schemas_stand() -> None:
    secret = {"type": "string", "format": "password"}
    given = {"properties": {"format": secret, "at": {"format": "date"}}, "required": ["at"], "default": secret}
    assert usable_schema(json.loads(json.dumps({"anyOf": [given, {"const": secret}]}))) == {
        "anyOf": [
            {
                "properties": {"format": {"type": "string"}, "at": {"format": "date"}},
                "required": ["at"],
                "default": secret,
                "additionalProperties": False,
            },
            {"const": secret},
        ]
    }


# References in the parameters of functions


def test_references_are_placed_where_schemas_stand_and_data_stay_as_they_are() -> None:
    data = {"$ref": "#/$defs/x"}
    parameters = {
        "properties": {"a": {"$ref": "#/$defs/x"}, "b": {"const": data}, "$ref": {"$ref": "#"}},
        "$defs": {"x": {"enum": [data]}},
    }
    placed = schema_of([{"function": {"name": "f", "parameters": parameters}}], "required")["$defs"]["tool0"]
    assert placed["properties"]["a"] == {"$ref": "#/$defs/tool0/$defs/x"}
    assert placed["properties"]["b"] == {"const": data}
    assert placed["properties"]["$ref"] == {"$ref": "#/$defs/tool0"}
    assert placed["$defs"]["x"] == {"enum": [data]}


def test_a_tree_knows_when_it_cannot_follow_a_reference() -> None:
    assert SchemaTree({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#"}}}}).is_exact
    for reference in ("#a", "#/$defs/b", "#/$defs/a/0", "#//"):
        assert not SchemaTree({"$ref": reference, "$defs": {"a": {}}}).is_exact
