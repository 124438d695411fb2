"""Placeholders and references to variables in the values of settings.

Hosts fill in `${env:NAME}`, `${input:name}` or `${workspaceFolder}` before they start the server, each host its own
forms. What a host does not know reaches the server as it is written, and must not be taken for a path or a key.
"""

import re
from collections.abc import Mapping

ADVICE = "Nobody has filled that in: set it where your client takes it from, or write the value itself in its place."
_BRACED = re.compile(r"\$\{[^{}]+\}")
_OTHER_BRACES = r"\{\{[^{}]+\}\}|\{(?:env|file|input):[^{}]+\}"
_WHOLE = re.compile(rf"\$(?:env:)?[A-Z_][A-Z0-9_]*|%[A-Za-z_]\w*%|<[^<>]+>|{_OTHER_BRACES}")
"""Forms that count only where they are the whole value: a key may have such signs in it."""
_LEFT_EMPTY = re.compile(r"\$\{user_config\.[^{}]+\}|undefined")
"""What Claude Desktop passes for an optional field of an extension that the user left empty, and what hosts in
JavaScript pass for a variable that they do not have."""
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_REFERENCE_IN_PATH = re.compile(rf"{_BRACED.pattern}|\$[A-Za-z_]\w*|%[A-Z][A-Z0-9_]+%|{_OTHER_BRACES}")
_QUOTES = "\"'"
_INVISIBLE = "\ufeff\u200b\u2060"


def cleaned(text: str) -> str:
    """The value without what a `.env` file or a host left around it: spaces, line ends, quotes, a byte order mark.

    A field that the user of a host left empty is no value either.
    """
    text = _stripped(text)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in _QUOTES and text[0] not in text[1:-1]:
        text = _stripped(text[1:-1])
    return "" if _LEFT_EMPTY.fullmatch(text) else text


def unfilled(text: str) -> str | None:
    """The first placeholder in a value that nobody has filled in; None where there is none."""
    found = _WHOLE.fullmatch(text) or _BRACED.search(text)
    return found[0] if found else None


def with_variables(path: str, values: Mapping[str, str]) -> str:
    """The path with `$NAME` and `${NAME}` replaced by those variables; one that is not set stays as it is."""

    def value(match: re.Match[str]) -> str:
        return cleaned(values.get(match[1] or match[2], "")) or match[0]

    return _REFERENCE.sub(value, path)


def unfilled_in_path(path: str) -> str | None:
    """The first placeholder or reference in a path that `with_variables` had no value for."""
    found = _REFERENCE_IN_PATH.search(path)
    return found[0] if found else unfilled(path)


def _stripped(text: str) -> str:
    return text.strip().strip(_INVISIBLE).strip()
