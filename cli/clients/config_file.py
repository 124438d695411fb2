"""Reads the file of a client, and replaces it as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from itertools import count


class FileProblem(Exception):
    """A file cannot be read or written; the message says which and why."""


def read(path: str) -> str | None:
    """The text of a file; None where there is none.

    Raises: `FileProblem`.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise FileProblem(f"{path} is not UTF-8 text.") from None
    except OSError as error:
        raise FileProblem(f"Cannot read {path}: {error.strerror}.") from None


def replace(path: str, before: str | None, after: str) -> str | None:
    """Writes a file in the place of the one that was read, with its permissions; follows symbolic links.

    Arguments:
        path: the file; its folder is made where it is missing.
        before: the text that was read; another program may have changed the file since.
        after: the new text.

    Returns: the path of the copy of the former file, beside it.

    Raises: `FileProblem`; then the file is as it was.
    """
    if read(path) != before:
        raise FileProblem(f"Another program has just changed {path}.")
    path = os.path.realpath(path)
    backup = None if before is None else _free_name(path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if backup is not None:
            shutil.copy2(path, backup)
        _write(path, after.encode("utf-8"), like=backup)
    except OSError as error:
        if backup is not None:
            with contextlib.suppress(OSError):
                os.unlink(backup)
        raise FileProblem(f"Cannot write {path}: {error.strerror}.") from None
    return backup


def _free_name(path: str) -> str:
    """The first free name for a copy beside the file."""
    names = (f"{path}.backup{number if number > 1 else ''}" for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


def _write(path: str, content: bytes, like: str | None) -> None:
    """Writes a file under another name first. A new file is for its owner only, since it may hold keys."""
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            _take_owner_and_mode(unfinished, like)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def _take_owner_and_mode(path: str, like: str) -> None:
    """Gives a file the mode of another one, and its owner where this is possible."""
    found = os.stat(like)
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # only root may give files away
            os.chown(path, found.st_uid, found.st_gid)
    os.chmod(path, found.st_mode & 0o7777)
