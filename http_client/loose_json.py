"""JSON as servers write it: also with NaN, bytes that are no UTF-8, line breaks in texts, and halves of characters."""

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
"""One escape of the two that a character beyond U+FFFF takes: it cannot be encoded again."""


def decoded(data: bytes) -> tuple[Any, bool]:
    """What a JSON text holds, and whether it is one."""
    try:
        return msgspec.json.decode(data.removeprefix(_BOM)), True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        text = data.decode("utf-8", "replace").removeprefix("\ufeff")
        return json.loads(_HALF.sub(r"\\ufffd", text), strict=False), True
    except (ValueError, RecursionError):
        return None, False
