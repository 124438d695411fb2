"""Which outputs are parsed, and what the chat template is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.interface import Conversation, Message, Sampling, TextPart
from engine.local.output_parsers import (
    ForcedCallOutputParser,
    OutputParsers,
    PlainOutputParser,
)

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}


def conversation(**given: Any) -> Conversation:
    return Conversation((Message("user", (TextPart("hi"),)),), Sampling(0.0, 5), **given)


def parsers() -> OutputParsers:
    return OutputParsers(SimpleNamespace())


@pytest.mark.parametrize("given", [{}, {"tools": (TOOL,)}, {"tools": (TOOL,), "tool_choice": "none"}])
def test_without_parsers_all_of_an_output_is_the_answer(given: dict[str, Any]) -> None:
    parser = parsers().output_parser(conversation(**given))
    assert type(parser) is PlainOutputParser
    assert parser.new_answer_text("<tool_call>", [1], [2]) == "<tool_call>"
    assert parser.parse("<think>x", [1], [2]).text == "<think>x"


@pytest.mark.parametrize("choice", ["required", "get_time"])
def test_forced_calls_need_no_parser_and_are_not_shown_as_text(choice: str) -> None:
    parser = parsers().output_parser(conversation(tools=(TOOL,), tool_choice=choice))
    assert isinstance(parser, ForcedCallOutputParser)
    assert parser.new_answer_text("{", [1], [2]) == ""
    text = "{}" if choice == "get_time" else '[{"name":"get_time","arguments":{}}]'
    output = parser.parse(text, [1], [2])
    assert (output.text, [call.name for call in output.tool_calls]) == ("", ["get_time"])
    assert parser.parse(text[:-1], [1], [2]).text == text[:-1]


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
