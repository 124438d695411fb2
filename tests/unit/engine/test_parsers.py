"""Which outputs are parsed, what the model is shown, and which parameters of functions are taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import InvalidGeneration
from engine.interface import Conversation, Message, Sampling, TextPart
from engine.parsers import MOST_SCHEMA_CHARACTERS, ForcedReader, OutputParsers, PlainReader, check_parameters

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}


def conversation(**given: Any) -> Conversation:
    return Conversation((Message("user", (TextPart("hi"),)),), Sampling(0.0, 5), **given)


def parsers() -> OutputParsers:
    return OutputParsers(SimpleNamespace())


@pytest.mark.parametrize("given", [{}, {"tools": (TOOL,)}, {"tools": (TOOL,), "tool_choice": "none"}])
def test_without_parsers_all_of_an_output_is_the_answer(given: dict[str, Any]) -> None:
    reader = parsers().reader(conversation(**given))
    assert type(reader) is PlainReader
    assert reader.new_answer_text("<tool_call>", [1], [2]) == "<tool_call>"
    assert reader.read("<think>x", [1], [2]).text == "<think>x"


@pytest.mark.parametrize("choice", ["required", "get_time"])
def test_forced_calls_need_no_parser_and_are_not_shown_as_text(choice: str) -> None:
    reader = parsers().reader(conversation(tools=(TOOL,), tool_choice=choice))
    assert isinstance(reader, ForcedReader)
    assert reader.new_answer_text("{", [1], [2]) == ""
    text = "{}" if choice == "get_time" else '[{"name":"get_time","arguments":{}}]'
    output = reader.read(text, [1], [2])
    assert (output.text, [call.name for call in output.tool_calls]) == ("", ["get_time"])
    assert reader.read(text[:-1], [1], [2]).text == text[:-1]


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {}),
        ({"tools": (TOOL,)}, {"tools": [TOOL]}),
        ({"tools": (TOOL,), "tool_choice": "none"}, {}),
        ({"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
    ],
)
def test_the_template_is_given_only_what_was_asked_for(given: dict[str, Any], options: dict[str, Any]) -> None:
    asked = conversation(**given)
    assert parsers().chat_options(asked, asked.tools) == options


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"type": "array"}, "the parameters of a function are an object"),
        (nested(49), "nested more than 48 levels deep"),
        ({"description": "x" * MOST_SCHEMA_CHARACTERS}, "longer than"),
        ({"properties": {"a": {"$ref": "https://example.com/schema"}}}, "$ref may point only into the same schema"),
        ({"properties": {"a": {"minItems": 10**9}}}, "add up to more than 10000"),
        ({"properties": {"a": [{"$ref": "file:///etc/passwd"}]}}, "$ref may point only into the same schema"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidGeneration) as caught:
        check_parameters(parameters, "arguments.tools[0].function.parameters")
    assert str(caught.value).startswith("arguments.tools[0].function.parameters: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"type": "object", "properties": {}},
        {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {}}},
        nested(48),
    ],
)
def test_ordinary_parameters_are_taken(parameters: dict[str, Any]) -> None:
    check_parameters(parameters, "x")
