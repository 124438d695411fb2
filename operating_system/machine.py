"""Figures of this machine and its processes, where the system reports them.

In a control group (a container) on Linux, its limits count too.
"""

from __future__ import annotations

import contextlib
import os
import sys

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""
_UNREADABLE = (OSError, AttributeError, ValueError, IndexError)


def n_processors() -> int:
    """How many processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The memory of the machine, or the limit of the control group; None if it is not known."""
    with contextlib.suppress(*_UNREADABLE):
        if sys.platform == "win32":
            from operating_system import windows

            return windows.memory_bytes()[0]
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = _number("/sys/fs/cgroup/memory.max")
        return machine if limit is None else min(machine, limit)
    return None


def free_memory_bytes() -> int | None:
    """Memory available without swapping, also within the control group; None on macOS, or if it is not known."""
    with contextlib.suppress(*_UNREADABLE):
        if sys.platform == "win32":
            from operating_system import windows

            return windows.memory_bytes()[1]
        free = _mem_available()
        limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
        return min(free, max(0, limit - used)) if limit is not None and used is not None else free
    return None


def resident_bytes(process_id: int) -> int | None:
    """Memory of a process of this user: resident pages, on Windows committed ones. None if it cannot be read."""
    with contextlib.suppress(*_UNREADABLE):
        if sys.platform == "win32":
            from operating_system import windows

            return windows.committed_bytes(process_id)
        if sys.platform == "darwin":
            from operating_system import macos

            return macos.resident_bytes(process_id)
        with open(f"/proc/{process_id}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def share_heaps(count: int) -> None:
    """Has all threads share this many of glibc's heaps; others do not have them.

    Otherwise new threads get heaps of their own, and in each of them rests of freed memory stay.
    """
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # musl has no such function
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count)


def return_freed_memory() -> None:
    """Makes glibc return freed memory to the system; other systems do so by themselves."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)


def _mem_available() -> int:
    """Raises `OSError` or `ValueError` where the kernel does not report it."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    raise ValueError("no MemAvailable")


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # no control group, or "max" for no limit
        return None
