"""Placeholders and references to variables in the values of settings.

Hosts fill in placeholders such as `${env:NAME}`, `${input:name}` or `${workspaceFolder}` before they start the server.
A placeholder that a host does not support reaches the server unchanged, and must not be used as a path or a key.
"""

import re
from collections.abc import Mapping

ADVICE = "Your client did not fill in this placeholder: define it there, or write the value itself."
_BRACED = re.compile(r"\$\{[^{}]+\}")
_OTHER_BRACES = r"\{\{[^{}]+\}\}|\{(?:env|file|input):[^{}]+\}"
_WHOLE = re.compile(rf"\$(?:env:)?[A-Z_][A-Z0-9_]*|%[A-Za-z_]\w*%|<[^<>]+>|{_OTHER_BRACES}")
"""Forms that are placeholders only as the whole value: a key may contain such characters."""
_LEFT_EMPTY = re.compile(r"\$\{user_config\.[^{}]+\}|undefined")
"""The values that Claude Desktop passes for an empty extension field, and JavaScript hosts for a missing variable."""
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_REFERENCE_IN_PATH = re.compile(rf"{_BRACED.pattern}|\$[A-Za-z_]\w*|%[A-Z][A-Z0-9_]+%|{_OTHER_BRACES}")
_QUOTES = "\"'"
_INVISIBLE = "\ufeff\u200b\u2060"


def cleaned(text: str) -> str:
    """The value without surrounding spaces, line ends, quotes or a byte order mark; "" for an empty field of a host."""
    text = _stripped(text)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in _QUOTES and text[0] not in text[1:-1]:
        text = _stripped(text[1:-1])
    return "" if _LEFT_EMPTY.fullmatch(text) else text


def unfilled(text: str) -> str | None:
    """The first placeholder in a value, or None."""
    match = _WHOLE.fullmatch(text) or _BRACED.search(text)
    return match[0] if match else None


def with_variables(path: str, values: Mapping[str, str]) -> str:
    """The path with `$NAME` and `${NAME}` replaced by the values of these variables, if they are set."""

    def value(match: re.Match[str]) -> str:
        return cleaned(values.get(match[1] or match[2], "")) or match[0]

    return _REFERENCE.sub(value, path)


def unfilled_in_path(path: str) -> str | None:
    """The first placeholder or reference in a path that `with_variables` did not replace, or None."""
    match = _REFERENCE_IN_PATH.search(path)
    return match[0] if match else unfilled(path)


def _stripped(text: str) -> str:
    return text.strip().strip(_INVISIBLE).strip()
