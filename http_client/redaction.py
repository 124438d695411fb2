"""Text from another server made safe to show: one short line without secrets or HTML tags."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

MAX_SHOWN_CHARACTERS = 300
MIN_SECRET_CHARACTERS = 4
"""A shorter key is not replaced: that would only damage words."""
MIN_PART_CHARACTERS = 8
"""From this length on, the beginning of a key at the end of a text counts as a truncated key."""
IN_ITS_PLACE = "…"
_MAX_READ = 20_000

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+@-]+){2,}/?")
_PARAMETER = re.compile(r"\s*\(parameter=.*\)\s*$", re.DOTALL)
_KEY = re.compile(
    r"\b(?:sk|hf)[-_][\w*.-]{6,}|\b(?:gsk|xai|nvapi|pk|rk)[-_][\w*.-]{16,}|\bAIza[\w-]{30,}|\bBearer [\w*.+/=-]{8,}"
)
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]{0,2000}>")


def plain(text: str, secrets: Iterable[str | None] = (), max_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """One short line without keys, memory addresses and paths of the server's machine.

    Arguments:
        text: from the server.
        secrets: keys that were sent; some servers echo them whole or with asterisks.
        max_characters: the maximum length.
    """
    text = text[:_MAX_READ]
    for secret in secrets:
        if secret is None or len(secret) < MIN_SECRET_CHARACTERS:
            continue
        text = text.replace(secret, "…")
        text = re.sub(re.escape(secret[:2]) + r"[\w.-]*\*{2,}[\w.*-]*", "…", text)  # sk-ab***yz
    line = " ".join("".join(c if c.isprintable() else " " for c in _PARAMETER.sub("", text)).split())
    for pattern in (_KEY, _ADDRESS, _PATH):
        line = pattern.sub("…", line)
    return line if len(line) <= max_characters else line[: max_characters - 1] + "…"


def without_tags(page: str) -> str:
    """The title of an HTML page, or its text where it has no title."""
    page = page[:_MAX_READ]
    titles = [html.unescape(_TAG.sub(" ", found[2])).strip() for found in _TITLE.finditer(page)]
    title = " – ".join(dict.fromkeys(title for title in titles if title))
    return title or html.unescape(_TAG.sub(" ", _HIDDEN.sub(" ", page))).strip()


def is_html(text: str) -> bool:
    """Whether a text is an HTML or XML page."""
    return bool(re.match(r"\s*(?:<!doctype|<html|<\?xml|<head|<body|<title|<h1|<center|<!--)", text, re.IGNORECASE))


class KeyFilter:
    """Removes a key from texts; `None` removes nothing."""

    def __init__(self, key: str | None = None) -> None:
        self._key = key if key is not None and len(key) >= MIN_SECRET_CHARACTERS else None
        self._held = ""

    def whole(self, text: str) -> str:
        """A complete text without the key, also where the key is truncated at its end."""
        if self._key is None:
            return text
        text = text.replace(self._key, IN_ITS_PLACE)
        n_begun = self._n_begun(text)
        return text if n_begun < MIN_PART_CHARACTERS else text[:-n_begun] + IN_ITS_PLACE

    def next(self, piece: str) -> str:
        """The next part of a stream that is safe to show; a possible beginning of the key waits for the next piece."""
        if self._key is None:
            return piece
        text = (self._held + piece).replace(self._key, IN_ITS_PLACE)
        n_shown = len(text) - self._n_begun(text)
        self._held = text[n_shown:]
        return text[:n_shown]

    def _n_begun(self, text: str) -> int:
        """How many characters at the end may be the beginning of the key."""
        assert self._key is not None
        longest = min(len(self._key) - 1, len(text))
        return next((n for n in range(longest, 0, -1) if self._key.startswith(text[-n:])), 0)
