r"""Paths of clients that are not opened, by their form alone.

Windows opens a path such as `\\server\share\a.png` by sending the user's credentials to that server, and some names
there mean a device (`NUL`, `COM1.png`) or a hidden stream of a file (`a.png:stream`). Paths to other machines are
refused on all systems, in every spelling: `//server/a`, `\/server\a`, `\\?\UNC\server\a`, `\\.\pipe\a`.
"""

from __future__ import annotations

import re
import sys

ON_WINDOWS = sys.platform == "win32"

_OTHER_MACHINE = re.compile(r"\s*[\\/]{2}")
_DRIVE = re.compile(r"[A-Za-z]:(?P<rest>.*)", re.DOTALL)
_NOT_ALLOWED = re.compile(r'[\x00-\x1f<>"|?*]')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$)", re.IGNORECASE)


def names_another_machine(path: str) -> bool:
    """Whether a path begins with two separators of any kind, as only paths to other machines and devices need to."""
    return _OTHER_MACHINE.match(path) is not None


def why_unsafe(path: str, on_windows: bool = ON_WINDOWS) -> str | None:
    """Why a path is not opened, as the end of a sentence that begins with the path; None if its form is safe.

    Arguments:
        path: in a form of this system.
        on_windows: whether the rules of Windows apply.
    """
    if names_another_machine(path):
        return "names another machine; only files of this machine are read"
    return _why_unsafe_on_windows(path) if on_windows else None


def _why_unsafe_on_windows(path: str) -> str | None:
    on_drive = _DRIVE.fullmatch(path)
    rest = path if on_drive is None else on_drive["rest"]
    if on_drive is not None and not rest.startswith(("\\", "/")):
        return "is relative to a drive; use the full path, such as C:\\folder\\name"
    if _NOT_ALLOWED.search(rest):
        return "has a character that Windows does not allow in names"
    if ":" in rest:
        return "names a stream of a file; only the file itself is read"
    if any(_is_device(name) for name in re.split(r"[\\/]", rest)):
        return "names a device of Windows; only files are read"
    return None


def _is_device(name: str) -> bool:
    return _DEVICE.fullmatch(name.partition(".")[0].rstrip(" ")) is not None
