"""Calls as they behave on Windows and macOS, for `tests.foreign_platform`: each fails where it would fail there."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

KERNEL = ("/proc", "/sys")
TEMPORARY = 1 << 30
"""A flag that Linux does not use."""
WINDOWS_SIGNALS = {
    *(signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGINT, signal.SIGSEGV, signal.SIGTERM),
    signal.SIGUSR1,  # stands for SIGBREAK
}
_real_rename = os.rename
Changed = dict[str, dict[str, object]]


def changed(platform: str, command: Callable[[Sequence[str]], list[str]]) -> Changed:
    """What replaces the real names, by module.

    Arguments:
        platform: "darwin" or "win32".
        command: makes the command of a child run under the same stand-ins.
    """
    kernel_files: dict[str, object] = {
        name: without_kernel_files(getattr(os, name)) for name in ("readlink", "listdir", "stat")
    }
    found: Changed = {"os": kernel_files, "sys": {"platform": platform}, "subprocess": {"Popen": _popen(command)}}
    for name in ("readlink", "listdir", "stat"):
        found["os"][name] = without_kernel_files(getattr(os, name))
    if platform == "win32":
        in_folder = ("link", "replace", "rename", "unlink", "mkdir")
        found["os"] |= {
            **{name: _without_folder_descriptors(getattr(os, name)) for name in in_folder},
            "stat": _without_folder_descriptors(without_kernel_files(os.stat)),
            "name": "nt",
            "open": _open,
            "scandir": _scandir,
            "rename": rename,
            "O_BINARY": 0,
            "O_TEMPORARY": TEMPORARY,
        }
        found["select"] = {"select": _select}
        found["signal"] = {"signal": _signal, "set_wakeup_fd": _set_wakeup_fd, "SIGBREAK": signal.SIGUSR1}
        found["socket"] = {
            "socketpair": _socketpair,
            "fromshare": _fromshare,
            "SO_EXCLUSIVEADDRUSE": socket.SO_REUSEADDR,
        }
        found["subprocess"] |= {
            "CREATE_NEW_PROCESS_GROUP": 0x200,
            "CREATE_NO_WINDOW": 0x08000000,
            "Popen": _windows_popen(command),
        }
        found["sys"] |= {"_base_executable": sys.executable}
    return found


def without_kernel_files(real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that finds no files of the Linux kernel."""

    def checked(path: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(path, str) and path.startswith(KERNEL):
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, *rest, **named)

    return checked


def _popen(command: Callable[[Sequence[str]], list[str]]) -> Callable[..., Any]:
    return lambda arguments, **named: subprocess.Popen(command(arguments), **named)


# Windows


def _without_folder_descriptors(real: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any, **named: Any) -> Any:
        if any(named.get(key) is not None for key in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
            raise NotImplementedError("dir_fd unavailable on this platform")
        return real(*values, **named)

    return checked


def _open(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    descriptor = os.open(path, flags & ~TEMPORARY, mode)
    if flags & TEMPORARY:
        os.unlink(path)
    return descriptor


def rename(path: str, other: str) -> None:
    """Renames as Windows does, which replaces no file."""
    if os.path.lexists(other):
        raise FileExistsError(17, "Cannot create a file when that file already exists", path)
    _real_rename(path, other)


def _scandir(path: Any = ".") -> Any:
    if isinstance(path, int):
        raise TypeError("scandir: path should be string, bytes, os.PathLike or None, not int")
    return os.scandir(path)


def _select(*sets: Any) -> Any:
    for one in [item for group in sets[:3] for item in group]:
        if not _is_socket(one if isinstance(one, int) else one.fileno()):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
    return select.select(*sets)


def _signal(number: int, handler: Any) -> Any:
    if number not in WINDOWS_SIGNALS:
        raise ValueError("signal number out of range")
    return signal.signal(number, handler)


def _set_wakeup_fd(fd: int, **named: Any) -> int:
    if fd != -1 and not _is_socket(fd):
        raise ValueError(f"nobody could wait for the descriptor {fd}, which is not a socket")
    return signal.set_wakeup_fd(fd, **named)


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


class _Shareable(socket.socket):
    """A socket with `share`; the child inherits its descriptor and gets the number."""

    def share(self, process_id: int) -> bytes:
        return str(self.fileno()).encode()


def _socketpair() -> tuple[_Shareable, _Shareable]:
    own, other = (_Shareable(fileno=end.detach()) for end in socket.socketpair())
    other.set_inheritable(True)
    return own, other


def _fromshare(data: bytes) -> socket.socket:
    return socket.socket(fileno=int(data))


def _windows_popen(command: Callable[[Sequence[str]], list[str]]) -> Callable[..., Any]:
    def popen(arguments: Sequence[str], *, creationflags: int = 0, **named: Any) -> Any:
        for name in ("preexec_fn", "pass_fds", "start_new_session", "process_group", "user", "umask"):
            if named.get(name):
                raise ValueError(f"{name} is not supported on Windows platforms")
        return subprocess.Popen(command(arguments), close_fds=False, start_new_session=bool(creationflags), **named)

    return popen


def _msvcrt() -> ModuleType:
    """Locks that are never taken: the real ones are Windows's own."""
    module = ModuleType("msvcrt")
    module.__dict__.update(
        LK_LOCK=1,
        LK_UNLCK=0,
        setmode=lambda fd, flags: os.fstat(fd).st_mode & 0,
        locking=lambda fd, mode, n_bytes: os.fstat(fd) and None,
    )
    return module


MODULES: dict[str, dict[str, ModuleType]] = {"win32": {"msvcrt": _msvcrt()}}
"""Modules that only that system has."""
