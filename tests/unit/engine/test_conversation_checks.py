"""What `Engine.check` rejects before anything is loaded, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InvalidGeneration
from engine.interface import Control, Conversation, ImagePart, Message, ResponseFormat, Sampling, TextPart
from engine.prompts.conversation_checks import MAX_SCHEMA_CHARACTERS, ConversationChecks, check_parameters
from settings import EngineSettings

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
BAD_TOOL: dict[str, Any] = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "array"}}}
LOCAL = EngineSettings(lora_modules={"sql": "/x", "tone": "/y"})
REMOTE = EngineSettings(base_url="http://localhost:8000/v1")
OPEN = {"properties": {"a": {"type": "integer"}}}
CLOSED = {**OPEN, "additionalProperties": False}


def conversation(*messages: Message, **given: Any) -> Conversation:
    return Conversation(messages, given.pop("sampling", Sampling(0.0, 5)), **given)


def check(asked: Conversation, settings: EngineSettings = LOCAL, **more: Any) -> tuple[Conversation, list[Any]]:
    """The checked conversation and the schemas that were tried."""
    tried: list[Any] = []
    checks = ConversationChecks(settings, lambda schema, control: tried.append(schema))
    return checks.check(asked, Control(), **more), tried


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lora": "no"}, "arguments.lora: there is no adapter 'no'; there are sql, tone"),
        ({"tools": (BAD_TOOL,)}, "arguments.tools[0].function.parameters: the parameters of a function are an object"),
        ({"tools": (TOOL,)}, "arguments.tools: the server does not know how this model writes its calls"),
        ({"tool_choice": "required"}, "arguments.tool_choice: required needs arguments.tools."),
        ({"tool_choice": "x"}, "arguments.tool_choice: there is no tool 'x' among arguments.tools."),
        (
            {"tools": (TOOL,), "tool_choice": "get_time", "response_format": ResponseFormat()},
            "arguments.response_format: does not go with",
        ),
        (
            {"response_format": ResponseFormat({"$ref": "http://x/"})},
            "arguments.response_format.json_schema.schema: the schema refers",
        ),
        (
            {"response_format": ResponseFormat(), "sampling": Sampling(0.0, 5, stop=("x",))},
            "arguments.stop: does not go with response_format",
        ),
        (
            {"response_format": ResponseFormat(), "sampling": Sampling(0.0, 5, min_tokens=1)},
            "arguments.min_tokens: does not go with",
        ),
        (
            {"response_format": ResponseFormat(), "sampling": Sampling(0.0, 5, ignore_eos=True)},
            "arguments.ignore_eos: does not go with",
        ),
    ],
)
def test_what_the_engine_cannot_do_is_rejected_by_the_arguments_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidGeneration) as caught:
        check(conversation(**given))
    assert str(caught.value).startswith(words)


def test_schemas_are_tried_and_closed() -> None:
    checked, tried = check(conversation(response_format=ResponseFormat(OPEN)))
    assert tried == [CLOSED]
    assert checked.response_format == ResponseFormat(CLOSED)


def test_a_forced_call_is_tried_as_a_schema() -> None:
    assert check(conversation(tools=(TOOL,), tool_choice="get_time"))[1] == [{"type": "object"}]
    assert check(conversation(tools=(TOOL,), tool_choice="none"))[1] == []


def test_a_remote_server_knows_its_own_adapters_and_parsers() -> None:
    asked = conversation(tools=(TOOL,), lora="any")
    assert check(asked, REMOTE)[0] == asked


def test_messages_are_checked_where_there_are_some() -> None:
    image: Any = ImagePart(None, "digest")  # type: ignore[arg-type]
    asked = conversation(Message("user", (TextPart("hi"), image)))
    assert check(asked)[0] == asked
    with pytest.raises(InvalidGeneration, match="does not accept images"):
        check(asked, accepts=())
    with pytest.raises(InvalidGeneration, match="Unknown role 'x'"):
        check(conversation(Message("x", ())))


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
        ({"description": "x" * MAX_SCHEMA_CHARACTERS}, "longer than"),
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
