"""Files whose names look like the one that was asked for, and differ only in how Unicode writes them.

macOS puts a narrow no-break space (U+202F) into the names of screenshots, and some programs write é as two characters;
what a person or a language model repeats is another name then.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable

MAX_ENTRIES = 10_000
"""So many names of a folder are looked at."""


def lookalike(path: str, is_readable: Callable[[str], bool]) -> str | None:
    """A path to something that is there, and looks like this absolute one.

    `is_readable` says of a folder without links whether it may be told what is in it.
    """
    found = "/"
    for part in path.split("/"):
        if part in ("", "."):
            continue
        direct = os.path.join(found, part)
        if os.path.lexists(direct):
            found = direct
            continue
        name = _name_like(part, found) if is_readable(os.path.realpath(found)) else None
        if name is None:
            return None
        found = os.path.join(found, name)
    return found


def difference(asked: str, found: str) -> str:
    """In what two names that look alike differ, and the one that is there in a form that is safe to copy."""
    odd = dict.fromkeys(c for c in found if c not in asked and _is_space_or_invisible(c))
    if odd:
        names = ", ".join(f"U+{ord(character):04X} ({unicodedata.name(character, 'unnamed')})" for character in odd)
        how = f"it has {names}"
    elif unicodedata.normalize("NFC", found) != unicodedata.normalize("NFC", asked):
        how = "it has other spaces, or none"
    elif unicodedata.normalize("NFC", found) != found:
        how = "its accents are characters of their own (NFD)"
    else:
        how = "its accents and letters are one character each (NFC)"
    return f"{how}; as JSON: {json.dumps(found)}"


def _name_like(name: str, folder: str) -> str | None:
    wanted = _plain(name)
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
                if _plain(entry.name) == wanted:
                    return entry.name
    except (OSError, ValueError):
        return None
    return None


def _plain(name: str) -> str:
    """A name as it looks."""
    composed = unicodedata.normalize("NFC", name)
    kept = (" " if unicodedata.category(c) == "Zs" else c for c in composed if not _is_invisible(c))
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") or "\ufe00" <= character <= "\ufe0f"


def _is_space_or_invisible(character: str) -> bool:
    return _is_invisible(character) or (unicodedata.category(character) == "Zs" and character != " ")
