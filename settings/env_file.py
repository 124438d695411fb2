"""The parser of `.env` files: one variable a line.

    # a comment
    VLLM_MODEL_NAME=Qwen/Qwen2.5-VL-3B-Instruct   # a comment after a space
    export OPENAI_API_KEY='sk-…'                  # export is optional; '…' has no escapes
    TEXT="two\\nlines"                             # "…" has the escapes \\n \\r \\t \\\\ \\" \\$

A value in quotes may span several lines. `$NAME` does not refer to another variable: keys may contain a `$`.
"""

import re
from collections.abc import Mapping

from settings.text_file import SettingFileError, text_of

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"([^\n]*)")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$", "\n": ""}


def added_variables(path: str, values: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The variables that the file of `VLLM_ENV_FILE` adds: those that are not set otherwise.

    A file that cannot be used adds none, and a sentence to `problems`.
    """
    try:
        variables = parsed(text_of(path))
    except SettingFileError as error:
        problems.append(f"The file that VLLM_ENV_FILE names {error}.")
        return {}
    return {name: value for name, value in variables.items() if not values.get(name, "").strip()}


def parsed(text: str) -> dict[str, str]:
    """The variables in the text of such a file; a repeated one has its last value.

    Raises: `SettingFileError`, which names the line and does not show it: it may hold a key.
    """
    if "\0" in text:
        raise _wrong(text, text.index("\0"), "holds a NUL character")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    variables: dict[str, str] = {}
    at = 0
    while at < len(text):
        blank = _BLANK.match(text, at)
        if blank is not None:
            at = blank.end()
            continue
        name = _NAME.match(text, at)
        if name is None:
            raise _wrong(text, at, "must be NAME=value, a comment or empty")
        variables[name[1]], at = _value(text, name.end())
    return variables


def _value(text: str, at: int) -> tuple[str, int]:
    """The value at this position, and the position of the next line."""
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        bare = _BARE.match(text, at)
        assert bare is not None
        return _COMMENT.sub("", bare[1]).strip(" \t"), bare.end() + 1
    quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
    if quoted is None:
        raise _wrong(text, at, f"has an unclosed {quote}")
    rest = _BLANK.match(text, quoted.end())
    if rest is None:
        raise _wrong(text, quoted.end(), f"has text after the closing {quote}")
    return quoted[1] if quote == "'" else _ESCAPE.sub(_unescaped, quoted[1]), rest.end()


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[1], match[0])


def _wrong(text: str, at: int, what: str) -> SettingFileError:
    line = text.count("\n", 0, at) + 1
    return SettingFileError(f"cannot be read: line {line} {what}")
