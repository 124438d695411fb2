"""A file that appears whole or not at all, under the first name that is free: nothing is ever overwritten.

It is written under a hidden name first. How it then gets its own name depends on what the file system can do, which is
found out by trying:

1. a hard link, which fails where the name is taken;
2. a rename that replaces nothing (`RENAME_NOREPLACE`, Linux 3.15), where there are no hard links: FUSE, FAT, Android;
3. an empty file under that name, made only where there is none, and the finished one renamed over it;
4. where files cannot be renamed either (buckets mounted as folders), the data is written into that empty file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import secrets
from collections.abc import Callable, Iterator

MAX_TRIES = 10_000
_RENAME_NOREPLACE = 1
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def write(folder: int, name: str, data: bytes, mode: int) -> str:
    """Writes a file into an open folder and returns its name; where the name is taken, a number is put behind it.

    Arguments: a descriptor of the folder; the file's rights, which the umask does not change.

    Raises: `OSError`, with nothing left behind.
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


def remove(folder: int, name: str) -> None:
    """Removes a file that may not be there."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _publish(folder: int, hidden: str, name: str, data: bytes, mode: int) -> None:
    """Gives a finished file its name; raises `FileExistsError` where that is taken."""
    for way in (_link, _rename_without_replacing):
        try:
            way(folder, hidden, name)
            return
        except FileExistsError:
            raise
        except OSError:  # which errors mean "not here" differs: EPERM, ENOSYS, EACCES, EIO, EINVAL and more were seen
            continue
    _write_new(folder, name, b"", mode)
    try:
        os.replace(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        remove(folder, name)
        _write_new(folder, name, data, mode)


def _link(folder: int, hidden: str, name: str) -> None:
    os.link(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)


def _rename_without_replacing(folder: int, hidden: str, name: str) -> None:
    rename = _renameat2()
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(folder, os.fsencode(hidden), folder, os.fsencode(name), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The C library's function, where it has one (glibc since 2.28, musl since 1.2.6)."""
    try:
        found = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return found


def _write_new(folder: int, name: str, data: bytes, mode: int) -> None:
    """Writes a file that was not there; one that could not be written whole is removed again."""
    descriptor = os.open(name, _NEW, mode, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(OSError):  # FAT has no rights
                os.fchmod(descriptor, mode)
            file.write(data)
    except BaseException:
        remove(folder, name)
        raise


def _candidates(name: str) -> Iterator[str]:
    stem, extension = os.path.splitext(name)
    yield name
    yield from (f"{stem}_{number}{extension}" for number in range(2, MAX_TRIES))
