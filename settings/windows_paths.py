"""Paths in the forms of Windows, WSL and Git Bash, and their counterparts on this machine.

A host on Windows may run the server in WSL or in a container, and pass paths in its own form: `C:\\…`, `file:///C:/…`,
`\\\\wsl.localhost\\Ubuntu\\…`, or `/c/…` in Git Bash. WSL mounts the drives of Windows below /mnt. On Windows itself, a
host may pass paths in the forms of Git Bash and WSL.
"""

from __future__ import annotations

import os
import re
import sys

_ON_WINDOWS = sys.platform == "win32"

_DRIVE = re.compile(r"/?(?P<drive>[A-Za-z]):[\\/](?P<rest>.*)", re.DOTALL)
_MOUNTED = re.compile(r"/(?:mnt/|cygdrive/)?(?P<drive>[A-Za-z])/(?P<rest>.*)", re.DOTALL)
_WSL = re.compile(r"[\\/]{2}(?:wsl\$|wsl\.localhost)[\\/]+[^\\/]+(?P<rest>[\\/].*)", re.DOTALL | re.IGNORECASE)
_LONG_PREFIX = re.compile(r"\\\\\?\\(?P<unc>UNC\\)?", re.IGNORECASE)
_URL_DRIVE = re.compile(r"/{0,3}(?P<path>[A-Za-z]:[\\/].*)", re.DOTALL)
_URL_WSL = re.compile(r"[\\/]{2,5}(?P<path>(?:wsl\$|wsl\.localhost)[\\/].*)", re.DOTALL | re.IGNORECASE)
_MOUNTS = ("/mnt/", "/")
"""Where drives are mounted: by WSL, and by Git Bash and some containers."""


def is_foreign(path: str) -> bool:
    """Whether a path has a form that only Windows uses, and this system is another one."""
    if _ON_WINDOWS:
        return False
    plain = _without_prefix(path)
    return _DRIVE.fullmatch(plain) is not None or _WSL.fullmatch(plain) is not None


def paths_here(path: str) -> list[str]:
    """The possible counterparts of a path in one of these forms, the most likely first; empty for other paths, and on
    Windows."""
    if _ON_WINDOWS:
        return []
    plain = _without_prefix(path)
    in_wsl = _WSL.fullmatch(plain)
    if in_wsl is not None:
        return [in_wsl["rest"].replace("\\", "/")]
    on_drive = _DRIVE.fullmatch(plain)
    if on_drive is not None:
        return _mounted(on_drive["drive"], on_drive["rest"].replace("\\", "/"))
    mounted = _MOUNTED.fullmatch(plain)
    if mounted is None:
        return []
    return [candidate for candidate in _mounted(mounted["drive"], mounted["rest"]) if candidate != plain]


def local_form(path: str) -> str:
    r"""On Windows, the path on its drive for `/c/…`, `/mnt/c/…`, `/C:/…` and `\\?\C:\…`; else the path itself."""
    if not _ON_WINDOWS:
        return path
    plain = _without_prefix(path)
    named = _DRIVE.fullmatch(plain) or _MOUNTED.fullmatch(plain)
    if named is None:
        return path
    return f"{named['drive']}:\\{named['rest']}" if plain.startswith("/") else plain


def path_to_use(path: str) -> str | None:
    """The counterpart that exists, or that can be created in an existing folder; None if there is none."""
    usable = (here for here in paths_here(path) if os.path.exists(here) or os.path.isdir(os.path.dirname(here)))
    return next(usable, None)


def windows_path_of_url(rest: str) -> str | None:
    """The Windows path of a `file:` URL, from its percent-decoded text after the scheme; None for other URLs."""
    match = _URL_DRIVE.fullmatch(rest)
    if match is not None:
        return match["path"]
    match = _URL_WSL.fullmatch(rest)
    return None if match is None else f"//{match['path']}"


def _mounted(drive: str, rest: str) -> list[str]:
    return [f"{mount}{drive.lower()}/{rest}" for mount in _MOUNTS]


def _without_prefix(path: str) -> str:
    r"""The path without `\\?\`, the prefix of long paths in Windows."""
    match = _LONG_PREFIX.match(path)
    if match is None:
        return path
    return ("\\\\" if match["unc"] else "") + path[match.end() :]
