"""Tools that the model may call, in OpenAI's format, and the calls that it made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from engine.interface import Message, ToolCall
from engine.prompts.forced_calls import AUTO, MAX_NESTED, NONE, REQUIRED, is_arguments
from handlers.chat.sampling import SamplingArguments
from mcp_protocol.tools.schema import OUTLINE
from mcp_protocol.tools.toolbox import ArgumentError

MAX_TOOLS = 128
MAX_CALLS = 128
TOOL_CHOICES = (AUTO, NONE, REQUIRED)
_NAME = re.compile(r"[a-zA-Z0-9_-]+")

FunctionName = Annotated[str, Meta(min_length=1, max_length=64, description="Letters, digits, _ and -.")]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]


class FunctionDefinition(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A function that the model may call."""

    name: FunctionName
    description: Annotated[str | None, Meta(description="When and how to use it.")] = None
    parameters: Annotated[dict[str, Any] | None, Meta(description="A JSON Schema of type object.")] = None
    strict: Annotated[bool | None, Meta(description="Accepted; a forced call always matches its schema.")] = None


class FunctionTool(msgspec.Struct, tag="function", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A tool; functions are the only type."""

    function: FunctionDefinition


class ChosenFunction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The function that the model must call."""

    name: FunctionName


class ToolChoice(msgspec.Struct, tag="function", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Forces a call of one function."""

    function: ChosenFunction


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The name and the arguments of a call."""

    name: FunctionName
    arguments: Annotated[str, Meta(description="The arguments as a JSON object in a string.")]


class AssistantCall(msgspec.Struct, tag="function", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A call that the model made in an earlier turn, as in that turn's result."""

    id: CallId
    function: CalledFunction


class ToolArguments(SamplingArguments, kw_only=True, frozen=True):
    """The functions that the model may call, and whether it reasons first."""

    tools: (
        Annotated[
            list[FunctionTool],
            Meta(max_length=MAX_TOOLS, description="OpenAI's form. Run the calls; send results with role tool."),
            OUTLINE,
        ]
        | None
    ) = None
    tool_choice: Annotated[
        Literal["auto", "none", "required"] | ToolChoice | None,
        Meta(
            description="auto (default; needs the server's VLLM_TOOL_PARSER), none, required, or one function: "
            '{"type": "function", "function": {"name": NAME}}.'
        ),
        OUTLINE,
    ] = None
    enable_thinking: Annotated[bool | None, Meta(description="Whether a reasoning model reasons first.")] = None


def tools_of(tools: Sequence[FunctionTool]) -> tuple[dict[str, Any], ...]:
    """The tools as the engine takes them; raises `ArgumentError`, which names the tool by its position."""
    names: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"arguments.tools[{index}].function.name"
        name = tool.function.name
        _check_name(name, where)
        if name in names:
            raise ArgumentError(f"{where}: there are two tools with the name {name}.")
        if name in TOOL_CHOICES:
            raise ArgumentError(f"{where}: {name} is a value of tool_choice; give the function another name.")
        names.add(name)
    return tuple({"type": "function", "function": _without_nulls(tool.function)} for tool in tools)


def tool_choice_of(choice: str | ToolChoice | None) -> str:
    """The tool choice as the engine takes it: auto, none, required, or the name of a function.

    Raises: `ArgumentError`.
    """
    if not isinstance(choice, ToolChoice):
        return choice or AUTO
    if choice.function.name in TOOL_CHOICES:  # no tool may have such a name
        raise ArgumentError(f"arguments.tool_choice: there is no tool {choice.function.name!r} among arguments.tools.")
    return choice.function.name


def check_tool_messages(messages: Sequence[Message], where: str) -> None:
    """Rejects a tool message without an open call in the assistant message before it.

    Arguments:
        messages: the new messages, and before them those of the session's turn that they continue.
        where: the argument's name, for error texts.

    Raises: `ArgumentError`.
    """
    open_calls: set[str] = set()
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                raise ArgumentError(
                    f"{where}: no open tool call has the tool_call_id {message.tool_call_id!r}. A tool message follows "
                    "the assistant message with the call, and each call has one tool message."
                )
            open_calls.remove(message.tool_call_id)
        elif message.role != "system":
            open_calls = {call.id for call in message.tool_calls}


def tool_calls_of(calls: Sequence[AssistantCall], where: str) -> tuple[ToolCall, ...]:
    """The calls of an assistant message as the engine takes them.

    Raises: `ArgumentError`, which names the call by its position.
    """
    if len({call.id for call in calls}) < len(calls):
        raise ArgumentError(f"{where}: two calls have the same id.")
    for index, call in enumerate(calls):
        _check_name(call.function.name, f"{where}[{index}].function.name")
        if not is_arguments(call.function.arguments):
            raise ArgumentError(
                f"{where}[{index}].function.arguments: expected a JSON object in a string, with at most {MAX_NESTED} "
                "levels."
            )
    return tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in calls)


def openai_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]] | None:
    """Calls in OpenAI's format; `None` if there are none."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ] or None


def _without_nulls(function: FunctionDefinition) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(function).items() if value is not None}


def _check_name(name: str, where: str) -> None:
    """Checks a function name here, since not every host supports patterns in a schema."""
    if not _NAME.fullmatch(name):
        raise ArgumentError(f"{where}: expected only letters, digits, _ and -.")
