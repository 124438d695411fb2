"""Forced tool calls: the JSON Schema of the generated text, and parsing the calls from it.

A model without a tool parser can be forced too: the grammar allows only these calls as JSON, in a format that does not
depend on the model.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from engine.interface import ToolCall
from engine.schemas.tree import REFERENCES, SchemaTree

AUTO, NONE = "auto", "none"
REQUIRED = "required"
MAX_CALLS = 16
"""A weak model would not stop calling."""
MAX_NESTED = 48
"""Levels in a function's parameters and a call's arguments; vLLM's grammars take 64, with the levels added here."""


def schema_of(tools: Sequence[dict[str, Any]], choice: str) -> dict[str, Any]:
    """The JSON Schema of the text: arguments of the function that `choice` names, or a list of calls for `required`."""
    if choice != REQUIRED:
        return next(_parameters(tool) for tool in tools if tool["function"]["name"] == choice)
    definitions = {f"tool{number}": _placed(_parameters(tool), number) for number, tool in enumerate(tools)}
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool["function"]["name"]}, "arguments": {"$ref": f"#/$defs/tool{number}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for number, tool in enumerate(tools)
    ]
    items = {"anyOf": calls} if len(calls) > 1 else calls[0]
    return {"type": "array", "minItems": 1, "maxItems": MAX_CALLS, "items": items, "$defs": definitions}


def calls_in(text: str, choice: str) -> tuple[ToolCall, ...]:
    """The calls in a text of that schema; none when it was cut off."""
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
    """An id for a call to which the model gave none."""
    return f"call_{secrets.token_hex(12)}"


def is_arguments(text: str) -> bool:
    """Whether a call's arguments are the JSON text of an object."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and nesting(value) <= MAX_NESTED


def nesting(value: Any) -> int:
    """How deeply objects and lists are nested."""
    depth, level = 0, [value]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return depth


def _parameters(tool: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = tool["function"].get("parameters") or {"properties": {}, "additionalProperties": False}
    return {"type": "object", **parameters}


def _placed(parameters: dict[str, Any], number: int) -> Any:
    """The schema with its references changed to its place in `$defs`; data in it are not changed."""
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
