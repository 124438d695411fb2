"""Opens files without blocking, and finds their real paths."""

from __future__ import annotations

import os
import sys

BINARY = getattr(os, "O_BINARY", 0)
"""Without it, Windows translates line ends and stops at Ctrl-Z."""
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | BINARY


class PathChanged(OSError):
    """The path of an open file has come to mean another file."""


def open_for_reading(path: str) -> int:
    """A descriptor, which child processes do not inherit; raises `OSError` and `ValueError`.

    A FIFO without a writer does not block, and a terminal does not become this process's own.
    """
    return os.open(path, _READ)


def use_binary_mode(descriptor: int) -> None:
    """Makes Windows pass the bytes of an inherited descriptor on unchanged."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(descriptor, os.O_BINARY)


def real_path(descriptor: int, path: str) -> str:
    """The path of an open file or folder without links.

    Arguments:
        descriptor: of the file.
        path: absolute, with which it was opened.

    Raises: `OSError`; `PathChanged` where only the path can be resolved and now means another file.
    """
    if sys.platform == "linux":
        return os.readlink(f"/proc/self/fd/{descriptor}")
    found = os.path.realpath(path)
    if not os.path.samestat(os.stat(found), os.fstat(descriptor)):
        raise PathChanged(f"{path} has changed")
    return found
