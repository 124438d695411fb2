"""Paths as Windows, WSL and Git Bash write them, and what they mean on this machine.

A host on Windows may run the server in WSL or in a container, and name files as it knows them itself: `C:\\…`,
`file:///C:/…`, `\\\\wsl.localhost\\Ubuntu\\…`, or `/c/…` in Git Bash. WSL has Windows' drives below /mnt.
"""

from __future__ import annotations

import os
import re

_DRIVE = re.compile(r"/?(?P<drive>[A-Za-z]):[\\/](?P<rest>.*)", re.DOTALL)
_MOUNTED = re.compile(r"/(?:mnt/|cygdrive/)?(?P<drive>[A-Za-z])/(?P<rest>.*)", re.DOTALL)
_WSL = re.compile(r"[\\/]{2}(?:wsl\$|wsl\.localhost)[\\/]+[^\\/]+(?P<rest>[\\/].*)", re.DOTALL | re.IGNORECASE)
_LONG_PREFIX = re.compile(r"\\\\\?\\(?P<unc>UNC\\)?", re.IGNORECASE)
_URL_DRIVE = re.compile(r"/{0,3}(?P<path>[A-Za-z]:[\\/].*)", re.DOTALL)
_URL_WSL = re.compile(r"[\\/]{2,5}(?P<path>(?:wsl\$|wsl\.localhost)[\\/].*)", re.DOTALL | re.IGNORECASE)
_MOUNTS = ("/mnt/", "/")
"""Where drives are found: WSL's place, and that of Git Bash and of containers that follow it."""


def is_windows_path(path: str) -> bool:
    """Whether a path is written as only Windows writes it."""
    plain = _without_prefix(path)
    return _DRIVE.fullmatch(plain) is not None or _WSL.fullmatch(plain) is not None


def paths_here(path: str) -> list[str]:
    """What a path that is written in one of these ways may mean here, the likeliest first; empty for other paths."""
    plain = _without_prefix(path)
    inside = _WSL.fullmatch(plain)
    if inside is not None:
        return [inside["rest"].replace("\\", "/")]
    on_drive = _DRIVE.fullmatch(plain)
    if on_drive is not None:
        return _mounted(on_drive["drive"], on_drive["rest"].replace("\\", "/"))
    mounted = _MOUNTED.fullmatch(plain)
    if mounted is None:
        return []
    return [candidate for candidate in _mounted(mounted["drive"], mounted["rest"]) if candidate != plain]


def path_to_use(path: str) -> str | None:
    """What such a path means here for something that is there or is to be made in a folder that is; None: nothing."""
    here = (found for found in paths_here(path) if os.path.exists(found) or os.path.isdir(os.path.dirname(found)))
    return next(here, None)


def windows_path_of_url(rest: str) -> str | None:
    """The Windows path that a `file:` URL names after its scheme, percent signs undone; None for other URLs."""
    match = _URL_DRIVE.fullmatch(rest)
    if match is not None:
        return match["path"]
    match = _URL_WSL.fullmatch(rest)
    return None if match is None else f"//{match['path']}"


def _mounted(drive: str, rest: str) -> list[str]:
    return [f"{mount}{drive.lower()}/{rest}" for mount in _MOUNTS]


def _without_prefix(path: str) -> str:
    r"""Without `\\?\`, which Windows puts before long paths."""
    match = _LONG_PREFIX.match(path)
    if match is None:
        return path
    return ("\\\\" if match["unc"] else "") + path[match.end() :]
