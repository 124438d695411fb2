"""Finds a file whose name looks the same as a missing one and differs only in Unicode.

macOS puts a narrow no-break space (U+202F) into the names of screenshots, and some programs write é as two characters.
A person or a language model that repeats such a name writes a different one.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable

MAX_ENTRIES = 10_000
"""How many names of a folder are compared."""


def similar_path(path: str, is_readable: Callable[[str], bool]) -> str | None:
    """An existing path that looks the same as this absolute one; `None` if there is none.

    Arguments:
        path: an absolute path that does not exist.
        is_readable: whether the names in a folder, given by its real path, may be reported.
    """
    drive, below = os.path.splitdrive(path)
    found = drive + os.sep
    for part in below.replace(os.altsep or os.sep, os.sep).split(os.sep):
        if part in ("", "."):
            continue
        direct = os.path.join(found, part)
        if os.path.lexists(direct):
            found = direct
            continue
        name = _similar_name(part, found) if is_readable(os.path.realpath(found)) else None
        if name is None:
            return None
        found = os.path.join(found, name)
    return found


def difference(asked: str, found: str) -> str:
    """How the existing name differs from the requested one, and its JSON form, which is safe to copy."""
    odd = dict.fromkeys(c for c in found if c not in asked and _is_space_or_invisible(c))
    if odd:
        names = ", ".join(f"U+{ord(c):04X} ({unicodedata.name(c, 'unnamed')})" for c in odd)
        how = f"its name contains {names}"
    elif unicodedata.normalize("NFC", found) != unicodedata.normalize("NFC", asked):
        how = "its name has different spaces"
    elif unicodedata.normalize("NFC", found) != found:
        how = "its accents are separate characters (NFD)"
    else:
        how = "its accented letters are single characters (NFC)"
    return f"{how}; as JSON: {json.dumps(found)}"


def _similar_name(name: str, folder: str) -> str | None:
    wanted = _normalized(name)
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MAX_ENTRIES), entries, strict=False):
                if _normalized(entry.name) == wanted:
                    return entry.name
    except (OSError, ValueError):
        return None
    return None


def _normalized(name: str) -> str:
    """The name without invisible characters, with plain spaces and composed accents."""
    composed = unicodedata.normalize("NFC", name)
    kept = (" " if unicodedata.category(c) == "Zs" else c for c in composed if not _is_invisible(c))
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") or "\ufe00" <= character <= "\ufe0f"


def _is_space_or_invisible(character: str) -> bool:
    return _is_invisible(character) or (unicodedata.category(character) == "Zs" and character != " ")
