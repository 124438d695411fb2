"""Arguments as hosts send them, brought to a tool's types wherever only one reading is possible.

Some hosts write arrays, objects, numbers and booleans as JSON text, whole numbers as floats, and null for what they
leave out. Nothing of that is ambiguous as long as the type admits no such text, and only then it is taken: where a
string is admitted, a string stays what it is. Only arguments that were refused as they are come here, so calls that
keep to the schema cost nothing. What cannot be understood is returned unchanged, for the usual error.
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

Hold = Callable[[int], None]
"""Takes bytes of the budget before objects are made of a text; raises `OverBudget`."""

HOST_ARGUMENTS = frozenset(
    {"headers", "_meta", "toolCallId", "sessionId", "chatInput", "action", "wait_for_previous", "random_string"}
)
"""What hosts add to arguments by themselves; it is dropped unread where a tool has no such argument.

FluidMCP puts its caller's HTTP headers, bearer tokens included, into `headers`; adapters of LangChain put `_meta` here;
n8n adds `toolCallId` (n8n-io/n8n#21500) and its chat trigger's `sessionId`, `chatInput` and `action` (n8n-io/n8n#22787;
other servers strip the same four), Gemini CLI `wait_for_previous`, and Cursor gives tools without arguments a
`random_string`.
"""
MAX_EXACT = 2**53
"""Floats above it do not tell which whole number was meant."""
MAX_SCALAR_CHARS = 64
"""Longer text is no number, boolean or null."""
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[")
_ARRAYS = (inspect.ListType, inspect.VarTupleType)


def coerced(arguments: Json, cls: type[msgspec.Struct], hold: Hold) -> Json:
    """The arguments with everything that has one reading only in the types of `cls`.

    Raises: `RecursionError` for arguments that are nested too deeply, and what `hold` raises.
    """
    return _struct(arguments, _type_of(cls), hold)


def number_of(value: Any) -> float | None:
    """A number, also where it came as text; None for everything else."""
    if isinstance(value, str):
        value = _decoded(value) if len(value) <= MAX_SCALAR_CHARS else None
    return value if type(value) in (int, float) else None


def arguments_of(given: Any) -> Any:
    """The arguments of a call, also where all of them came as one JSON text; a long one stays bytes until its turn."""
    if isinstance(given, str) and given[:SHORT_BYTES].strip() in ("", "null") and len(given) < SHORT_BYTES:
        return {}
    if not isinstance(given, str) or given.lstrip()[:1] != "{":
        return given
    if len(given) > SHORT_BYTES:
        return Raw(given.strip().encode("utf-8", "replace"))
    decoded = _decoded(given)
    return decoded if isinstance(decoded, dict) else given


def known_at(cls: type[msgspec.Struct], path: str) -> list[str]:
    """The words of which one must stand at a place, written as msgspec writes it: `.messages[0].role`."""
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
    """What a type admits, each alternative alone."""
    if isinstance(node, inspect.Metadata):
        return _choices(node.type)
    if isinstance(node, inspect.UnionType):
        return [choice for each in node.types for choice in _choices(each)]
    return [node]


def _fitted(value: Any, node: inspect.Type, hold: Hold) -> Any:
    choices = _choices(node)
    if isinstance(value, str):
        if any(_takes_text(choice, value) for choice in choices):
            return value
        value = _read(value, choices, hold)
    if isinstance(value, float):
        return _whole(value) if not _has(choices, inspect.FloatType) and _has(choices, inspect.IntType) else value
    if isinstance(value, list):
        array = next((choice for choice in choices if isinstance(choice, _ARRAYS)), None)
        return value if array is None else [_fitted(item, array.item_type, hold) for item in value]
    if isinstance(value, dict):
        return _object(value, choices, hold)
    return value


def _takes_text(choice: inspect.Type, text: str) -> bool:
    """Whether this text is a value of the type; of a type that is not known here it may be."""
    if isinstance(choice, inspect.LiteralType):
        return text in choice.values
    nothing_but_json = (
        inspect.NoneType,
        inspect.BoolType,
        inspect.IntType,
        inspect.FloatType,
        inspect.StructType,
        inspect.DictType,
        *_ARRAYS,
    )
    return not isinstance(choice, nothing_but_json)


def _read(text: str, choices: Sequence[inspect.Type], hold: Hold) -> Any:
    """The value that a text stands for; the text itself where it stands for none that the types admit."""
    wanted = tuple(kind for kinds, kind in _KINDS if _has(choices, *kinds))
    scalars_only = not any(kind in (list, dict) for kind in wanted)
    if not wanted or (scalars_only and len(text) > MAX_SCALAR_CHARS):
        return text
    if bool in wanted and text.strip().casefold() in ("true", "false"):  # Python's hosts write True
        return text.strip().casefold() == "true"
    if not scalars_only and text.lstrip()[:1] == '"':  # some hosts write the JSON text of a JSON text
        inner = _decoded(text)
        text = inner if isinstance(inner, str) else text
    if not scalars_only and text.lstrip()[:1] in ("[", "{"):
        hold(object_bytes(text.encode("utf-8", "replace")))
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
"""Which kinds of JSON values the types admit."""


def _has(choices: Sequence[inspect.Type], *kinds: type[inspect.Type]) -> bool:
    return any(isinstance(choice, kinds) for choice in choices)


def _decoded(text: str) -> Any:
    """The JSON value of a text; the text itself where it is none."""
    try:
        return decoded(text.encode("utf-8", "replace"))
    except ValueError:
        return text


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT else value


def _object(value: Json, choices: Sequence[inspect.Type], hold: Hold) -> Json:
    structs = [choice for choice in choices if isinstance(choice, inspect.StructType)]
    if len(structs) > 1:
        structs = [choice for choice in structs if value.get(choice.tag_field or "") == choice.tag]
    if len(structs) == 1:
        return _struct(value, structs[0], hold)
    plain = next((choice for choice in choices if isinstance(choice, inspect.DictType)), None)
    if plain is None or isinstance(plain.value_type, inspect.AnyType):
        return value
    return {name: _fitted(item, plain.value_type, hold) for name, item in value.items()}


def _struct(value: Json, node: inspect.StructType, hold: Hold) -> Json:
    """An object's members as the Struct's fields want them. A Struct that knows other ways to write what it stands for
    has a function `canonical`, which brings them to its own."""
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
        member = _fitted(item, field.type, hold)
        if not field.required and _is_left_out(member, _choices(field.type)):
            continue
        fitted[name] = member
    return fitted


def _is_left_out(value: Any, choices: Sequence[inspect.Type]) -> bool:
    """Whether an optional member is null, in so many words too, though its type has no null."""
    if value is None:
        return not _has(choices, inspect.NoneType)
    return value == "null" and not any(_takes_text(choice, "null") for choice in choices)
