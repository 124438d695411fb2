"""Tool calls that a model must make: the form of its answer, and the calls out of it.

A model without a parser can be made to call as well: the engine's grammar lets it write nothing else than these calls
as JSON, in a form of ours that does not depend on the model.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from engine.interface import ToolCall
from engine.schema_tree import REFERENCES, SchemaTree

REQUIRED = "required"
MOST_CALLS = 16
"""A weak model would go on calling."""
MOST_NESTED = 48
"""Levels in a function's parameters and in a call's arguments; vLLM's grammars take 64 with what is put around."""


def schema_of(tools: Sequence[dict[str, Any]], choice: str) -> dict[str, Any]:
    """The JSON Schema of the answer: the arguments of the function that `choice` names, or for `required` all calls."""
    if choice != REQUIRED:
        return next(_parameters(tool) for tool in tools if tool["function"]["name"] == choice)
    definitions = {f"tool{number}": _placed(_parameters(tool), number) for number, tool in enumerate(tools)}
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": {"$ref": f"#/$defs/tool{number}"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for number, tool in enumerate(tools)
    ]
    items = {"anyOf": calls} if len(calls) > 1 else calls[0]
    return {"type": "array", "minItems": 1, "maxItems": MOST_CALLS, "items": items, "$defs": definitions}


def calls_in(text: str, choice: str) -> tuple[ToolCall, ...]:
    """The calls of an answer in that form; none when it was cut off."""
    try:
        written = json.loads(text)
        calls = [{"name": choice, "arguments": written}] if choice != REQUIRED else written
        found = [(call["name"], json.dumps(call["arguments"], ensure_ascii=False)) for call in calls]
    except (ValueError, RecursionError, TypeError, KeyError):
        return ()
    if not all(is_arguments(arguments) for _, arguments in found):
        return ()
    return tuple(ToolCall(new_id(), name, arguments) for name, arguments in found)


def new_id() -> str:
    """An id for a call that the model gave none."""
    return f"call_{secrets.token_hex(12)}"


def is_arguments(text: str) -> bool:
    """Whether a call's arguments are what a function can be called with: the JSON text of an object."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and nesting(value) <= MOST_NESTED


def nesting(value: Any) -> int:
    """How many objects and lists lie inside each other."""
    depth, level = 0, [value]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return depth


def _parameters(tool: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = tool["function"].get("parameters") or {"properties": {}, "additionalProperties": False}
    return {"type": "object", **parameters}


def _placed(parameters: dict[str, Any], number: int) -> Any:
    """A schema whose references to itself hold where it is put among the definitions; data in it stay as they are."""
    schemas = {id(node) for node in SchemaTree(parameters).nodes}

    def place(node: Any) -> Any:
        if isinstance(node, list):
            return [place(item) for item in node]
        if not isinstance(node, dict):
            return node
        placed = {key: place(value) for key, value in node.items()}
        if id(node) in schemas:
            for name in REFERENCES & node.keys():
                reference = node[name]
                if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
                    placed[name] = f"#/$defs/tool{number}{reference[1:]}"
        return placed

    return place(parameters)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
