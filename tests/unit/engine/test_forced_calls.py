"""The form of forced calls: its schema, and what is read out of an answer."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from engine.prompts.forced_calls import MAX_NESTED, calls_in, is_arguments, nesting, schema_of

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": []}},
}


def tool(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    function = {"name": name} if parameters is None else {"name": name, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = (tool("get_weather", CITY), tool("get_time"), tool("walk", TREE))


def fits(value: Any, choice: str) -> bool:
    return jsonschema.Draft202012Validator(schema_of(TOOLS, choice)).is_valid(value)


@pytest.mark.parametrize(
    ("calls", "valid"),
    [
        ([{"name": "get_weather", "arguments": {"city": "Paris"}}], True),
        ([{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_time", "arguments": {}}], True),
        ([{"name": "walk", "arguments": {"root": {"next": {"next": {}}}}}], True),
        ([{"name": "walk", "arguments": {"root": {"next": 1}}}], False),
        ([{"name": "get_weather", "arguments": {}}], False),
        ([{"name": "get_time", "arguments": {"zone": "CET"}}], False),
        ([{"name": "get_moon", "arguments": {}}], False),
        ([{"name": "get_time"}], False),
        ([], False),
        ([{"name": "get_time", "arguments": {}}] * 17, False),
    ],
)
def test_required_calls_have_a_schema(calls: Any, valid: bool) -> None:
    schema = schema_of(TOOLS, "required")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert fits(calls, "required") is valid


def test_the_arguments_of_a_named_function_have_its_schema() -> None:
    assert fits({"city": "Paris"}, "get_weather")
    assert not fits({"town": "Paris"}, "get_weather")
    assert fits({}, "get_time")
    assert not fits({"zone": "CET"}, "get_time")


def test_schemas_of_callers_are_not_changed() -> None:
    before = json.dumps(TOOLS)
    schema_of(TOOLS, "required")
    assert json.dumps(TOOLS) == before


def test_calls_are_read_in_order_and_have_ids_of_their_own() -> None:
    text = '[{"name":"get_weather","arguments":{"city":"Zürich"}},{"name":"get_time","arguments":{}}]'
    calls = calls_in(text, "required")
    assert [(call.name, call.arguments) for call in calls] == [
        ("get_weather", '{"city": "Zürich"}'),
        ("get_time", "{}"),
    ]
    assert len({call.id for call in calls}) == 2


def test_the_arguments_of_a_named_function_are_a_call() -> None:
    (call,) = calls_in('{"city":"Paris"}', "get_weather")
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Paris"}')


@pytest.mark.parametrize(
    "text", ["", '[{"name":"get_ti', "[1]", "{}", "[]", '[{"name":"a","arguments":[]}]', "[" * 5000]
)
def test_what_was_cut_off_is_no_call(text: str) -> None:
    assert calls_in(text, "required") == ()


@pytest.mark.parametrize("text", ["", "Paris", "[]", "null", '{"a": NaN}', '{"a": ', "1"])
def test_arguments_are_the_text_of_an_object(text: str) -> None:
    assert not is_arguments(text)
    assert is_arguments('{"a": {"b": [1, "c"]}}')


def test_arguments_are_nested_only_so_deep() -> None:
    deep = "{}"
    for _ in range(MAX_NESTED - 1):
        deep = f'{{"a":{deep}}}'
    assert is_arguments(deep)
    assert not is_arguments(f'{{"a":{deep}}}')
    assert nesting(json.loads(deep)) == MAX_NESTED
