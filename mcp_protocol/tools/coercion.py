"""Converts arguments to a tool's types where the conversion is unambiguous.

Some clients send arrays, objects, numbers and booleans as JSON text, whole numbers as floats, and null for omitted
arguments. Text is converted only where the schema allows no string. Valid arguments never come here, so they cost
nothing; values that cannot be converted are returned unchanged, for the usual error.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw, inspect

from mcp_protocol.jsonrpc import SHORT_BYTES, Json
from mcp_protocol.raw_json import decoded, object_bytes

Reserve = Callable[[int], None]
"""Reserves bytes of the budget before text is decoded; raises `OverBudget`."""

HOST_ARGUMENTS = frozenset(
    {"headers", "_meta", "toolCallId", "sessionId", "chatInput", "action", "wait_for_previous", "random_string"}
)
"""Arguments that clients add by themselves; they are dropped if a tool has no such argument.

FluidMCP adds `headers` (its caller's HTTP headers, with bearer tokens); LangChain's adapters `_meta`; n8n `toolCallId`
(n8n-io/n8n#21500) and its chat trigger's `sessionId`, `chatInput` and `action` (n8n-io/n8n#22787); Gemini CLI
`wait_for_previous`; and Cursor `random_string`, for tools without arguments.
"""
MAX_EXACT = 2**53
"""Above it, a float does not represent one whole number."""
MAX_SCALAR_CHARS = 64
"""Longer text is not a number, boolean or null."""
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[")
_ARRAYS = (inspect.ListType, inspect.VarTupleType)


def coerced(arguments: Json, cls: type[msgspec.Struct], reserve: Reserve) -> Json:
    """The arguments converted to the types of `cls`.

    Raises: `RecursionError` for arguments that are nested too deeply, and the errors of `reserve`.
    """
    return _struct(arguments, _type_of(cls), reserve)


def number_of(value: Any) -> float | None:
    """A number, also from text; None for anything else."""
    if isinstance(value, str):
        value = _decoded(value) if len(value) <= MAX_SCALAR_CHARS else None
    return value if type(value) in (int, float) else None


def arguments_of(given: Any) -> Any:
    """The arguments of a call, also if they are one JSON text; long text stays undecoded."""
    if isinstance(given, str) and given[:SHORT_BYTES].strip() in ("", "null") and len(given) < SHORT_BYTES:
        return {}
    if not isinstance(given, str) or given.lstrip()[:1] != "{":
        return given
    if len(given) > SHORT_BYTES:
        return Raw(given.strip().encode("utf-8", "replace"))
    decoded = _decoded(given)
    return decoded if isinstance(decoded, dict) else given


def known_at(cls: type[msgspec.Struct], path: str) -> list[str]:
    """The allowed values at a path in msgspec's notation, such as `.messages[0].role`."""
    choices: list[inspect.Type] = [_type_of(cls)]
    words: list[str] = []
    for step in _STEP.finditer(path):
        structs = [choice for choice in choices if isinstance(choice, inspect.StructType)]
        words = [str(struct.tag) for struct in structs if struct.tag_field == step["name"]]
        inner = (
            [field.type for struct in structs for field in struct.fields if field.encode_name == step["name"]]
            if step["name"]
            else [choice.item_type for choice in choices if isinstance(choice, _ARRAYS)]
        )
        choices = [choice for each in inner for choice in _choices(each)]
    return words or [str(word) for node in choices if isinstance(node, inspect.LiteralType) for word in node.values]


@functools.cache
def _type_of(cls: type[msgspec.Struct]) -> inspect.StructType:
    return cast(inspect.StructType, inspect.type_info(cls))


def _choices(node: inspect.Type) -> list[inspect.Type]:
    """The alternatives of a type."""
    if isinstance(node, inspect.Metadata):
        return _choices(node.type)
    if isinstance(node, inspect.UnionType):
        return [choice for each in node.types for choice in _choices(each)]
    return [node]


def _fitted(value: Any, node: inspect.Type, reserve: Reserve) -> Any:
    choices = _choices(node)
    if isinstance(value, str):
        if any(_accepts_text(choice, value) for choice in choices):
            return value
        value = _read(value, choices, reserve)
    if isinstance(value, float):
        return _whole(value) if not _has(choices, inspect.FloatType) and _has(choices, inspect.IntType) else value
    if isinstance(value, list):
        array = next((choice for choice in choices if isinstance(choice, _ARRAYS)), None)
        return value if array is None else [_fitted(item, array.item_type, reserve) for item in value]
    if isinstance(value, dict):
        return _object(value, choices, reserve)
    return value


def _accepts_text(choice: inspect.Type, text: str) -> bool:
    """Whether the type accepts this text; True for unknown types."""
    if isinstance(choice, inspect.LiteralType):
        return text in choice.values
    types_without_text = (
        inspect.NoneType,
        inspect.BoolType,
        inspect.IntType,
        inspect.FloatType,
        inspect.StructType,
        inspect.DictType,
        *_ARRAYS,
    )
    return not isinstance(choice, types_without_text)


def _read(text: str, choices: Sequence[inspect.Type], reserve: Reserve) -> Any:
    """The JSON value of a text if the types allow it; otherwise the text."""
    wanted = tuple(kind for kinds, kind in _KINDS if _has(choices, *kinds))
    scalars_only = not any(kind in (list, dict) for kind in wanted)
    if not wanted or (scalars_only and len(text) > MAX_SCALAR_CHARS):
        return text
    if bool in wanted and text.strip().casefold() in ("true", "false"):  # Python clients write True
        return text.strip().casefold() == "true"
    if not scalars_only and text.lstrip()[:1] == '"':  # some clients encode JSON twice
        inner = _decoded(text)
        text = inner if isinstance(inner, str) else text
    if not scalars_only and text.lstrip()[:1] in ("[", "{"):
        reserve(object_bytes(text.encode("utf-8", "replace")))
    value = _decoded(text)
    if isinstance(value, bool) and bool not in wanted:
        return text
    if type(value) is float and int in wanted and float not in wanted and type(_whole(value)) is not int:
        return text
    return value if isinstance(value, wanted) or (type(value) is float and int in wanted) else text


_KINDS: tuple[tuple[tuple[type[inspect.Type], ...], type], ...] = (
    (_ARRAYS, list),
    ((inspect.StructType, inspect.DictType), dict),
    ((inspect.BoolType,), bool),
    ((inspect.IntType, inspect.FloatType), int),
    ((inspect.FloatType,), float),
    ((inspect.NoneType,), type(None)),
)
"""The Python types of JSON values, by the types that allow them."""


def _has(choices: Sequence[inspect.Type], *kinds: type[inspect.Type]) -> bool:
    return any(isinstance(choice, kinds) for choice in choices)


def _decoded(text: str) -> Any:
    """The JSON value of a text; the text itself if it is not JSON."""
    try:
        return decoded(text.encode("utf-8", "replace"))
    except ValueError:
        return text


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT else value


def _object(value: Json, choices: Sequence[inspect.Type], reserve: Reserve) -> Json:
    structs = [choice for choice in choices if isinstance(choice, inspect.StructType)]
    if len(structs) > 1:
        structs = [choice for choice in structs if value.get(choice.tag_field or "") == choice.tag]
    if len(structs) == 1:
        return _struct(value, structs[0], reserve)
    plain = next((choice for choice in choices if isinstance(choice, inspect.DictType)), None)
    if plain is None or isinstance(plain.value_type, inspect.AnyType):
        return value
    return {name: _fitted(item, plain.value_type, reserve) for name, item in value.items()}


def _struct(value: Json, node: inspect.StructType, reserve: Reserve) -> Json:
    """The members of an object, converted to the Struct's fields. A Struct that accepts other forms of an object has a
    function `canonical`, which converts them first."""
    canonical = getattr(node.cls, "canonical", None)
    if canonical is not None:
        value = canonical(value)
    fields = {field.encode_name: field for field in node.fields}
    fitted = {}
    for name, item in value.items():
        field = fields.get(name)
        if field is None:
            fitted[name] = item
            continue
        member = _fitted(item, field.type, reserve)
        if not field.required and _is_omitted(member, _choices(field.type)):
            continue
        fitted[name] = member
    return fitted


def _is_omitted(value: Any, choices: Sequence[inspect.Type]) -> bool:
    """Whether an optional member is null or "null" although its type has no null."""
    if value is None:
        return not _has(choices, inspect.NoneType)
    return value == "null" and not any(_accepts_text(choice, "null") for choice in choices)
