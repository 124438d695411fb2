"""The parts of a prompt that an image can show or miss one by one.

"a red circle on a blue background" has two: "a red circle" and "a blue background". A prompt is cut at the ends of
sentences and lines, at commas and semicolons, before "with", before "and" where another thing with an article or a
number follows ("a cat and two dogs", but not "black and white"), and before a background. No model is asked.
"""

from __future__ import annotations

import re

MAX_PARTS = 6
"""Further parts are only asked about as parts of the whole prompt."""

_PUNCTUATION = re.compile(r"(?:(?<!\d)[.,]|[.,](?!\d)|[;!?\n。，、；！？])+")
_DETERMINER = (
    r"(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|some|several|many|few|another|no|his|her|its|their|"
    r"my|your|\d+)"
)
_WITH = re.compile(r"\s+with\s+", re.IGNORECASE)
_AND = re.compile(rf"\s+and\s+(?={_DETERMINER}\s)", re.IGNORECASE)
_BACKGROUND = re.compile(
    r"(?:^|\s+)(?:placed\s+)?(?:on|against|over|in front of|in the middle of|before)\s+"
    r"(?=(?:an?|the)?\s*(?:[\w-]+\s+){0,4}?(?:background|backdrop)\b)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^(?:and|with)\s+", re.IGNORECASE)
_OPENING = re.compile(
    r"^(?:please\s+)?(?:(?:draw|paint|make|create|generate|show)(?:\s+me)?\s+)?"
    r"(?:an?\s+(?:picture|image|drawing|painting|photo|photograph|illustration)\s+of\s+)?",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w")


def parts_of(prompt: str) -> list[str]:
    """The parts of a prompt in its order, `MAX_PARTS` at most; empty where it has only one."""
    pieces = _PUNCTUATION.split(_OPENING.sub("", prompt.strip(), count=1))
    for cut in (_BACKGROUND, _WITH, _AND):
        pieces = [part for piece in pieces for part in cut.split(piece)]
    parts: dict[str, str] = {}
    for piece in pieces:
        part = " ".join(_LEADING.sub("", piece.strip()).split())
        if _WORD.search(part):
            parts.setdefault(part.casefold(), part)
    return list(parts.values())[:MAX_PARTS] if len(parts) > 1 else []
