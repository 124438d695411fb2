"""JSON as servers write it: with NaN, invalid UTF-8, line breaks in strings, unpaired surrogates, numbers as text."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_BOM = b"\xef\xbb\xbf"
_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""An unpaired surrogate escape, which cannot be encoded again."""


def decoded(data: bytes) -> tuple[Any, bool]:
    """The value of a JSON text, and whether the text is JSON."""
    try:
        return msgspec.json.decode(data.removeprefix(_BOM)), True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        text = data.decode("utf-8", "replace").removeprefix("\ufeff")
        return json.loads(_HALF.sub(r"\\ufffd", text), strict=False), True
    except (ValueError, RecursionError):
        return None, False


def count(value: Any) -> int | None:
    """A whole number, 0 or more, given as a number or as text; `None` for anything else."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else -1.0
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number < 2**53 and number == int(number) else None
