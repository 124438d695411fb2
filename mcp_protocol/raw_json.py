"""JSON that stays undecoded until it is needed: as objects it may take 25 times the memory.

The arguments of a long call wait as bytes. The few values that scheduling needs are decoded without the rest.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec
from msgspec import Raw

DICT_BYTES = 200
LIST_BYTES = 72
ITEM_BYTES = 64
MEMBER_BYTES = 100
"""Memory in CPython 3.11 per opening brace (a dict with its first table), bracket, comma (a reference and a short
string) and colon (a name and its entry in a large table)."""
MAX_BYTES_PER_BYTE = 32
"""Upper bound of the ratio between decoded and encoded size; `[{},{},…]` has 24."""
CALL_BYTES = 2_048
"""Memory of a call besides its arguments."""
FEW_MARKS = 100
"""Occurrences that are searched one by one before the rest is counted; takes about 10 µs."""
SHORT_BYTES = 1_024
"""Longest argument that scheduling reads."""

_ESCAPED = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)")
"""One escape of a JSON string, or a surrogate pair; the group matches a lone surrogate."""


def decoded(data: bytes | Raw, type_: Any = Any) -> Any:
    """Decodes JSON. A lone surrogate, which JavaScript's `slice` makes of an emoji, becomes U+FFFD.

    Raises: `ValueError`, `RecursionError` or `MemoryError`.
    """
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError:
        raise
    except ValueError:
        data = bytes(data)
        if b"\\ud" not in data and b"\\uD" not in data:
            raise
        repaired = _ESCAPED.sub(lambda match: rb"\ufffd" if match[1] else match[0], data)
        if repaired == data:
            raise
        return msgspec.json.decode(repaired, type=type_)


def object_bytes(data: bytes | Raw) -> int:
    """An upper estimate of the memory that this JSON takes as objects."""
    data = bytes(data)
    counted = ((b"{", DICT_BYTES), (b"[", LIST_BYTES), (b",", ITEM_BYTES), (b":", MEMBER_BYTES))
    return ITEM_BYTES + len(data) + sum(_count(data, mark) * n_bytes for mark, n_bytes in counted)


def _count(data: bytes, mark: bytes) -> int:
    """How often a byte occurs. For rare bytes, as in base64, `find` is twenty times as fast as `count`."""
    at = -1
    for n_before in range(FEW_MARKS):
        at = data.find(mark, at + 1)
        if at < 0:
            return n_before
    return FEW_MARKS + data.count(mark, at + 1)


def waiting_bytes(arguments: dict[str, Any] | Raw) -> int:
    """The memory of a waiting call, whose arguments are undecoded or small."""
    if isinstance(arguments, Raw):
        return CALL_BYTES + len(arguments)
    return CALL_BYTES + MAX_BYTES_PER_BYTE * len(msgspec.json.encode(arguments))


def members(data: Raw, names: tuple[str, ...]) -> dict[str, Any]:
    """The members of an object with these names, without long ones; none if the JSON is invalid."""
    if not names:
        return {}
    try:
        picked = msgspec.json.decode(data, type=_picker(names))
        return {name: decoded(raw) for name in names if 0 < len(raw := getattr(picked, name)) <= SHORT_BYTES}
    except (ValueError, RecursionError):
        return {}


@functools.cache
def _picker(names: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Picked", [(name, Raw, Raw(b"")) for name in names])
