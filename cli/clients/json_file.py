"""Changes one member of a JSON file and keeps every other character of it."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_SPACE = re.compile(r"[\ufeff \t\r\n]*")
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])', re.DOTALL)
_FIRST_INDENT = re.compile(r"\n([ \t]+)\S")
_DECODER = json.JSONDecoder()


class NotJson(Exception):
    """The text is not a JSON object; the message says why."""


class _Object(NamedTuple):
    """Where an object and the values of its members are: `end` is behind the last one, or behind the bracket."""

    start: int
    values: dict[str, tuple[int, int]]
    end: int
    closing: int


def parsed(text: str) -> tuple[dict[str, Any], bool]:
    """The object of a file, and whether the file is plain JSON: it may have comments or commas behind the last members.

    An empty text is an empty object.

    Raises: `NotJson`.
    """
    if not (text := text.removeprefix("\ufeff")).strip():
        return {}, True
    try:
        value, is_plain = json.loads(text), True
    except (ValueError, RecursionError) as error:
        try:
            value, is_plain = json.loads(without_comments(text)), False
        except (ValueError, RecursionError):
            raise NotJson(str(error)) from None
    if not isinstance(value, dict):
        raise NotJson("it holds no object")
    return value, is_plain


def without_comments(text: str) -> str:
    """The text without comments, and without commas behind the last member of an object or an array."""

    def kept(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith('"') else " "

    return _STRING_OR_LAST_COMMA.sub(kept, _STRING_OR_COMMENT.sub(kept, text))


def with_member(text: str, section: str, name: str, value: dict[str, Any]) -> str:
    """A plain JSON file with `value` as the member `name` of the object `section`; both are added where missing."""
    if not text.strip("\ufeff \t\r\n"):
        return text.strip() + json.dumps({section: {name: value}}, indent=2, ensure_ascii=False) + "\n"
    indent = found[1] if (found := _FIRST_INDENT.search(text)) else "  "
    top = _object_at(text, _after_space(text, 0))
    if section not in top.values:
        return _with_new_member(text, top, section, {name: value}, indent, "")
    start, _ = top.values[section]
    servers = _object_at(text, start)
    if name not in servers.values:
        return _with_new_member(text, servers, name, value, indent, _margin(text, start))
    start, end = servers.values[name]
    if "\n" not in text[servers.start : servers.closing]:
        return text[:start] + json.dumps(value, ensure_ascii=False) + text[end:]
    return text[:start] + _dumped(value, indent, _margin(text, start), _newline(text)) + text[end:]


def _object_at(text: str, start: int) -> _Object:
    """The object that begins at `start` in a valid JSON text."""
    values: dict[str, tuple[int, int]] = {}
    end = start + 1
    at = _after_space(text, end)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, _after_space(text, at + 1) if text[at] == "," else at)
        value_at = _after_space(text, _after_space(text, at) + 1)  # behind the colon
        _, end = _DECODER.raw_decode(text, value_at)
        values[name] = value_at, end
        at = _after_space(text, end)
    return _Object(start, values, end, at)


def _with_new_member(text: str, into: _Object, name: str, value: dict[str, Any], indent: str, margin: str) -> str:
    """The text with a member behind the last one of an object, which is on a line with `margin`."""
    newline, comma = _newline(text), "," if into.values else ""
    if into.values and "\n" not in text[into.start : into.closing]:
        return f"{text[: into.end]}, {_dumped_key(name)}{json.dumps(value, ensure_ascii=False)}{text[into.end :]}"
    own_margin = _margin(text, max(into.values.values())[0]) if into.values else margin + indent
    member = f"{comma}{newline}{own_margin}{_dumped_key(name)}{_dumped(value, indent, own_margin, newline)}"
    rest = text[into.end :] if into.values else newline + margin + text[into.closing :]
    return text[: into.end] + member + rest


def _dumped_key(name: str) -> str:
    return json.dumps(name) + ": "


def _dumped(value: dict[str, Any], indent: str, margin: str, newline: str) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False).replace("\n", newline + margin)


def _margin(text: str, at: int) -> str:
    """The space at the beginning of the line of a position."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
