"""What another server said, fit to be shown: one short line without secrets, and HTML without its tags."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

MAX_SHOWN_CHARACTERS = 300
LEAST_SECRET_CHARACTERS = 4
"""A shorter secret is none, and leaving it out would only garble words."""
_MOST_READ = 20_000

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?<![\w.:/])(?:/[\w.+@-]+){2,}/?")
_PARAMETER = re.compile(r"\s*\(parameter=.*\)\s*$", re.DOTALL)
_KEY = re.compile(
    r"\b(?:sk|hf)[-_][\w*.-]{6,}|\b(?:gsk|xai|nvapi|pk|rk)[-_][\w*.-]{16,}|\bAIza[\w-]{30,}|\bBearer [\w*.+/=-]{8,}"
)
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]{0,2000}>")


def plain(text: str, secrets: Iterable[str | None] = (), most_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """One line, shortened, without keys, memory addresses, and paths of the machine it comes from.

    Arguments: the text; keys that were sent, which some servers echo whole or starred; how long the line may be.
    """
    text = text[:_MOST_READ]
    for secret in secrets:
        if secret is None or len(secret) < LEAST_SECRET_CHARACTERS:
            continue
        text = text.replace(secret, "…")
        text = re.sub(re.escape(secret[:2]) + r"[\w.-]*\*{2,}[\w.*-]*", "…", text)  # sk-ab***yz
    line = " ".join("".join(c if c.isprintable() else " " for c in _PARAMETER.sub("", text)).split())
    for pattern in (_KEY, _ADDRESS, _PATH):
        line = pattern.sub("…", line)
    return line if len(line) <= most_characters else line[: most_characters - 1] + "…"


def without_tags(page: str) -> str:
    """What a page of HTML says: its title, or its text where it has none."""
    page = page[:_MOST_READ]
    titles = [html.unescape(_TAG.sub(" ", found[2])).strip() for found in _TITLE.finditer(page)]
    told = " – ".join(dict.fromkeys(title for title in titles if title))
    return told or html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", page))).strip()


def is_html(text: str) -> bool:
    """Whether a text is a page of HTML or XML."""
    return bool(re.match(r"\s*(?:<!doctype|<html|<\?xml|<head|<body|<title|<h1|<center|<!--)", text, re.IGNORECASE))
