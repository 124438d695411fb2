"""An open folder. What is done in it cannot be redirected by a link, except on Windows, which opens no folders."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator

from operating_system.files import BINARY, real_path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
_LOCK_FILE = ".vllm-sessions.lock"
_RENAME_NOREPLACE = {"linux": ("renameat2", 1), "darwin": ("renameatx_np", 4)}
"""The C library's function and its flag: Linux 3.15 with glibc 2.28 or musl 1.2.6; macOS 10.12."""


class Folder:
    """Works with the entries of one folder by their names. All methods raise `OSError`.

    Arguments:
        path: absolute.
        descriptor: of the folder; None on Windows.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self._path = path
        self._fd = descriptor

    def real_path(self) -> str:
        """The path of the folder without links."""
        return os.path.realpath(self._path) if self._fd is None else real_path(self._fd, self._path)

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Its entries, in no order."""
        with os.scandir(self._path if self._fd is None else self._fd) as found:
            yield from found

    def create(self, name: str, mode: int) -> int:
        """The descriptor of a new file with exactly these permissions, which Windows does not know.

        Raises: `FileExistsError` where the name is taken.
        """
        if sys.platform == "win32":
            return os.open(self._at(name), _NEW, mode)
        descriptor = os.open(name, _NEW, mode, dir_fd=self._fd)
        with contextlib.suppress(OSError):  # FAT has no permissions
            os.fchmod(descriptor, mode)
        return descriptor

    def link(self, name: str, other: str) -> None:
        """Gives a file a second name; raises `FileExistsError` where it is taken."""
        os.link(self._at(name), self._at(other), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def rename_without_replacing(self, name: str, other: str) -> None:
        """Renames a file; raises `FileExistsError` where the name is taken."""
        if sys.platform == "win32":
            os.rename(self._at(name), self._at(other))  # never replaces a file there
            return
        rename, flag = _rename_without_replacing()
        if rename is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if rename(self._fd, os.fsencode(name), self._fd, os.fsencode(other), flag) != 0:
            import ctypes

            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def replace(self, name: str, other: str) -> None:
        """Renames a file; a file with the other name is replaced."""
        os.replace(self._at(name), self._at(other), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Removes a file."""
        os.unlink(self._at(name), dir_fd=self._fd)

    def _at(self, name: str) -> str:
        return os.path.join(self._path, name) if self._fd is None else name


def is_writable(path: str) -> bool:
    """Whether files can probably be created in a folder. On Windows, only creating one shows that."""
    if sys.platform != "win32":
        return os.access(path, os.W_OK)
    try:
        os.close(os.open(os.path.join(path, f".{os.urandom(8).hex()}.check"), _NEW | os.O_TEMPORARY))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def opened(path: str) -> Iterator[Folder]:
    """The folder at an absolute path; raises `OSError`, and `ValueError` for a null byte."""
    if sys.platform == "win32":
        if not os.path.isdir(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        yield Folder(path, None)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Waits for other servers that hold the lock of this folder; raises `OSError`.

    Windows cannot lock a folder: there a file in it is locked, which stays, and the wait ends with an error after 10 s.
    """
    if sys.platform == "win32":
        import msvcrt

        descriptor = os.open(os.path.join(path, _LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_BINARY)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
            try:
                yield
            finally:
                os.lseek(descriptor, 0, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        finally:
            os.close(descriptor)
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@functools.cache
def _rename_without_replacing() -> tuple[Callable[..., int] | None, int]:
    """The C library's function, where it exists, and its flag."""
    import ctypes

    name, flag = _RENAME_NOREPLACE.get(sys.platform, ("", 0))
    try:
        found = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None, flag
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return found, flag
