"""Atomic writing of a new file under the first free name: no file is ever overwritten.

The file is written under a hidden name. How it gets its final name depends on the file system; the first way that works
is used:

1. a hard link, which fails where the name is taken;
2. a rename without replacing, where there are no hard links: FUSE, FAT, Android;
3. an exclusively created empty file, replaced by a rename;
4. where files cannot be renamed (buckets mounted as folders), the data is written into that empty file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator

from operating_system.folders import Folder

MAX_TRIES = 10_000


def write(folder: Folder, name: str, data: bytes, mode: int) -> str:
    """Writes a file and returns its name; where the name is taken, a number is appended.

    Arguments:
        folder: where to write.
        name: the wanted name.
        data: the content.
        mode: the permissions, which the umask does not change.

    Raises: `OSError`; no partial file is left.
    """
    hidden = f".{secrets.token_hex(8)}.part"
    try:
        _write_new(folder, hidden, data, mode)
        for candidate in _candidates(name):
            with contextlib.suppress(FileExistsError):
                _publish(folder, hidden, candidate, data, mode)
                return candidate
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    finally:
        remove(folder, hidden)


def remove(folder: Folder, name: str) -> None:
    """Removes a file, if it exists."""
    with contextlib.suppress(OSError):
        folder.remove(name)


def _publish(folder: Folder, hidden: str, name: str, data: bytes, mode: int) -> None:
    """Gives a finished file its name; raises `FileExistsError` where the name is taken."""
    for rename in (folder.link, folder.rename_without_replacing):
        try:
            rename(hidden, name)
            return
        except FileExistsError:
            raise
        except OSError:  # "not supported" has many errors: EPERM, ENOSYS, EACCES, EIO, EINVAL and more
            continue
    _write_new(folder, name, b"", mode)
    try:
        folder.replace(hidden, name)
    except OSError:
        remove(folder, name)
        _write_new(folder, name, data, mode)


def _write_new(folder: Folder, name: str, data: bytes, mode: int) -> None:
    """Creates and writes a file; removes it where that fails."""
    descriptor = folder.create(name, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except BaseException:
        remove(folder, name)
        raise


def _candidates(name: str) -> Iterator[str]:
    stem, extension = os.path.splitext(name)
    yield name
    yield from (f"{stem}_{number}{extension}" for number in range(2, MAX_TRIES))
