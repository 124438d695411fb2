"""Checks the values of a form by its schema: strings, numbers, booleans, and choices of one or several values."""

from __future__ import annotations

import math
from typing import Any

from mcp_protocol.calls.answers import AnswerError
from mcp_protocol.jsonrpc import Json


def checked(content: Any, schema: Json) -> Json:
    """The values of the fields of the schema; other values are dropped.

    Raises: `AnswerError`, with the field and what is allowed.
    """
    if not isinstance(content, dict):
        raise AnswerError("The answer to the question must be an object.")
    fields: Json = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in content:
            raise AnswerError(f"The answer to the question lacks {name}.")
    for name, field in fields.items():
        if name in content and (expected := _expected(content[name], field)) is not None:
            raise AnswerError(f"The answer to the question is not valid: {name} must be {expected}.")
    return {name: content[name] for name in fields if name in content}


def _expected(value: Any, field: Json) -> str | None:
    """What a value should be; None if it is valid."""
    kind = field["type"]
    if kind == "boolean":
        return None if isinstance(value, bool) else "true or false"
    if kind in ("integer", "number"):
        return _expected_number(value, field)
    if kind == "array":
        return _expected_choices(value, field)
    if not isinstance(value, str):
        return "a string"
    choices = _choices(field)
    if choices and value not in choices:
        return f"one of {', '.join(choices)}"
    least, most = field.get("minLength", 0), field.get("maxLength", math.inf)
    return None if least <= len(value) <= most else f"a string of {least} to {most} characters"


def _expected_number(value: Any, field: Json) -> str | None:
    kind = "an integer" if field["type"] == "integer" else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return kind
    if field["type"] == "integer" and value != value // 1:
        return kind
    least, most = field.get("minimum", -math.inf), field.get("maximum", math.inf)
    return None if least <= value <= most else f"{kind} from {least} to {most}"


def _expected_choices(value: Any, field: Json) -> str | None:
    choices = _choices(field["items"])
    if not isinstance(value, list) or any(item not in choices for item in value):
        return f"a list of {', '.join(choices)}"
    least, most = field.get("minItems", 0), field.get("maxItems", math.inf)
    return None if least <= len(value) <= most else f"a list of {least} to {most} values"


def _choices(field: Json) -> list[str]:
    named = field.get("oneOf", field.get("anyOf"))
    return field.get("enum", []) if named is None else [choice["const"] for choice in named]
