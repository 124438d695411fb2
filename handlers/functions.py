"""Tools that the model may call, as callers write them in OpenAI's shape, and the calls that it made."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from engine.errors import InvalidGeneration
from engine.forced_calls import MOST_NESTED, REQUIRED, is_arguments, schema_of
from engine.interface import Conversation, Message, ToolCall
from engine.parsers import AUTO, NONE, check_parameters
from engine.schemas import usable_schema
from handlers.sampling import SamplingArguments
from mcp_protocol.tools import ArgumentError

if TYPE_CHECKING:
    from settings import EngineSettings

MAX_TOOLS = 128
MAX_CALLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_-]+")

FunctionName = Annotated[str, Meta(min_length=1, max_length=64, description="Letters, digits, _ and -.")]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]


class FunctionDefinition(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A function that the model may ask for."""

    name: FunctionName
    description: Annotated[str | None, Meta(description="When and how to use it.")] = None
    parameters: Annotated[dict[str, Any] | None, Meta(description="A JSON Schema of type object.")] = None
    strict: Annotated[bool | None, Meta(description="Accepted; a forced call always fits its schema.")] = None


class FunctionTool(msgspec.Struct, tag="function", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A tool; there are only functions."""

    function: FunctionDefinition


class ChosenFunction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The function that must be called."""

    name: FunctionName


class ToolChoice(msgspec.Struct, tag="function", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Makes the model call one function."""

    function: ChosenFunction


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What was called, and with what."""

    name: FunctionName
    arguments: Annotated[str, Meta(description="The arguments as the JSON text of an object.")]


class AssistantCall(msgspec.Struct, tag="function", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A call that the model made before, as the result of that turn has it."""

    id: CallId
    function: CalledFunction


class FunctionArguments(SamplingArguments, kw_only=True, frozen=True):
    """What the model may call, and whether it reasons first."""

    tools: (
        Annotated[
            list[FunctionTool],
            Meta(max_length=MAX_TOOLS, description="Functions the model may call; you run them."),
        ]
        | None
    ) = None
    tool_choice: Annotated[
        Literal["auto", "none", "required"] | ToolChoice | None,
        Meta(
            description="auto (default): the model decides; needs VLLM_TOOL_PARSER. none: it answers. required, or a "
            "named function: it must call, with arguments that fit the schema."
        ),
    ] = None
    enable_thinking: (
        Annotated[bool, Meta(description="Whether a model that can reason before it answers does so.")] | None
    ) = None


def with_functions(
    request: Conversation,
    arguments: FunctionArguments,
    settings: EngineSettings,
    vet: Callable[[dict[str, Any]], None],
) -> Conversation:
    """The request with what the model may or must call, and whether it thinks first.

    Arguments: the request; what was asked for; the model; `vet` refuses a schema that the engine cannot follow.

    Raises: `ArgumentError` and `InvalidGeneration`, which name the argument.
    """
    tools = _tools(arguments.tools or ())
    choice = arguments.tool_choice or AUTO
    if isinstance(choice, ToolChoice):
        choice = choice.function.name
        if choice not in (tool["function"]["name"] for tool in tools):
            raise ArgumentError(f"arguments.tool_choice: there is no tool {choice!r} among arguments.tools.")
    elif not tools and choice == REQUIRED:
        raise ArgumentError("arguments.tool_choice: required needs arguments.tools.")
    if tools and choice == AUTO and settings.tool_parser is None and settings.base_url is None:
        raise ArgumentError(
            "arguments.tools: the server does not know how this model writes its calls. Set VLLM_TOOL_PARSER to "
            "vLLM's parser for the model's family; without it tool_choice may be none, required or a function."
        )
    if tools and choice not in (AUTO, NONE):
        if request.response_format is not None:
            raise ArgumentError("arguments.response_format: does not go with a forced tool_choice: a call is no answer")
        _check_forced(tools, str(choice), vet)
    return dataclasses.replace(request, tools=tools, tool_choice=str(choice), enable_thinking=arguments.enable_thinking)


def check_tool_messages(messages: Sequence[Message], where: str) -> None:
    """Refuses a tool's message that answers no call of the assistant's message before it, or one answered already.

    Arguments: the messages, those of a session's turn that they continue included; the argument's name.
    Raises: `ArgumentError`.
    """
    waiting: set[str] = set()
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                raise ArgumentError(
                    f"{where}: the tool_call_id {message.tool_call_id!r} answers no tool call. A tool message follows "
                    "the assistant's message that made the call, and answers each call once."
                )
            waiting.remove(message.tool_call_id)
        elif message.role != "system":
            waiting = {call.id for call in message.tool_calls}


def tool_calls_of(calls: Sequence[AssistantCall], where: str) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message as the engine takes them.

    Raises: `ArgumentError`, which names the call by its position.
    """
    if len({call.id for call in calls}) < len(calls):
        raise ArgumentError(f"{where}: two calls have the same id.")
    for index, call in enumerate(calls):
        _check_name(call.function.name, f"{where}[{index}].function.name")
        if not is_arguments(call.function.arguments):
            raise ArgumentError(
                f"{where}[{index}].function.arguments: expected the JSON text of an object of at most {MOST_NESTED} "
                "levels."
            )
    return tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in calls)


def shown_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]] | None:
    """Calls in OpenAI's shape; null where there are none."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ] or None


def _check_forced(tools: Sequence[dict[str, Any]], choice: str, vet: Callable[[dict[str, Any]], None]) -> None:
    """Refuses a call that the engine could not be made to write."""
    try:
        vet(usable_schema(schema_of(tools, choice)))
    except InvalidGeneration as error:
        raise ArgumentError(f"arguments.tools: a call cannot be forced with these parameters: {error}") from None


def _tools(tools: Sequence[FunctionTool]) -> tuple[dict[str, Any], ...]:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"arguments.tools[{index}].function"
        name = tool.function.name
        _check_name(name, f"{where}.name")
        if name in seen:
            raise ArgumentError(f"{where}.name: there are two tools of the name {name}.")
        if name in (AUTO, NONE, REQUIRED):
            raise ArgumentError(f"{where}.name: {name} is a tool_choice; give the function another name.")
        seen.add(name)
        if tool.function.parameters is not None:
            check_parameters(tool.function.parameters, f"{where}.parameters")
    return tuple(_shown_tool(tool) for tool in tools)


def _shown_tool(tool: FunctionTool) -> dict[str, Any]:
    function = {name: value for name, value in msgspec.structs.asdict(tool.function).items() if value is not None}
    return {"type": "function", "function": function}


def _check_name(name: str, where: str) -> None:
    """Checked here, since not every host reads a pattern in a schema."""
    if not _NAME.fullmatch(name):
        raise ArgumentError(f"{where}: expected only letters, digits, _ and -.")
