"""JSON that stays as it came until it is needed: as objects it may take 25 times the memory.

The arguments of a long call wait as bytes. What the queue must know of them at once, such as a session's name, is read
without making objects of the rest.
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
"""What CPython 3.11 takes for an opening brace (a dict with its first table), a bracket, each item after a comma (a
reference and a short string), and each colon (a name, and its place in a large table)."""
MOST_BYTES_PER_BYTE = 32
"""No JSON becomes larger than this many times its length: `[{},{},…]` comes to 24."""
CALL_BYTES = 2_048
"""What a call takes beside its arguments."""
FEW_MARKS = 100
"""So many bytes are looked for one by one before the rest are counted; it takes some 10 µs."""
SHORT_BYTES = 1_024
"""Names and limits that the queue reads are never longer."""

_ESCAPED = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)")
"""One escape of a JSON string, or two that make one character; the group is half of such a pair, alone."""


def decoded(data: bytes | Raw, type_: Any = Any) -> Any:
    """The value. Half a surrogate pair, which JavaScript's `slice` makes of an emoji, becomes U+FFFD.

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
        mended = _ESCAPED.sub(lambda match: rb"\ufffd" if match[1] else match[0], data)
        if mended == data:
            raise
        return msgspec.json.decode(mended, type=type_)


def object_bytes(data: bytes | Raw) -> int:
    """About how many bytes this JSON takes as objects, rather too many than too few."""
    data = bytes(data)
    counted = ((b"{", DICT_BYTES), (b"[", LIST_BYTES), (b",", ITEM_BYTES), (b":", MEMBER_BYTES))
    return ITEM_BYTES + len(data) + sum(_count(data, mark) * n_bytes for mark, n_bytes in counted)


def _count(data: bytes, mark: bytes) -> int:
    """How often a byte is there. Looking for the next one is twenty times as fast as counting where they are far apart,
    as they are in an image's base64."""
    at = -1
    for n_found in range(FEW_MARKS):
        at = data.find(mark, at + 1)
        if at < 0:
            return n_found
    return FEW_MARKS + data.count(mark, at + 1)


def waiting_bytes(arguments: dict[str, Any] | Raw) -> int:
    """What a call may take while it waits, with arguments that are bytes still, or small objects."""
    if isinstance(arguments, Raw):
        return CALL_BYTES + len(arguments)
    return CALL_BYTES + MOST_BYTES_PER_BYTE * len(msgspec.json.encode(arguments))


def members(data: Raw, names: tuple[str, ...]) -> dict[str, Any]:
    """Those members of an object that are short, by name; none where it turns out to be no JSON."""
    if not names:
        return {}
    try:
        found = msgspec.json.decode(data, type=_picker(names))
        return {name: decoded(raw) for name in names if 0 < len(raw := getattr(found, name)) <= SHORT_BYTES}
    except (ValueError, RecursionError):
        return {}


@functools.cache
def _picker(names: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Picked", [(name, Raw, Raw(b"")) for name in names])
