"""How the memory of a process is bounded and measured; what differs between systems is here.

Linux refuses a child what goes beyond its limit (`RLIMIT_AS`), so that libraries can fail in good order. Elsewhere that
limit is not enforced, and the parent kills a child whose measured memory is too large.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from sandbox.limits import CPU_MARGIN_S, HARD_MEMORY_BYTES

IS_ENFORCED = sys.platform == "linux"
"""Whether the system itself keeps a process below its limit."""


class Allowance:
    """The memory that the function in this process may take, beyond what the process had when it was ready for it.

    One object belongs to a child; in any other process it does nothing.
    """

    def __init__(self) -> None:
        self._imported = 0
        self._base = 0
        self._ceiling = 0
        self._allowed = 0
        self._is_active = False

    def begin(self, n_bytes: int, ceiling: int) -> None:
        """Starts a call: it may take `n_bytes`, and raise that to `ceiling`."""
        self._base = address_space()
        self._imported = self._imported or self._base
        self._ceiling = ceiling
        self._is_active = True
        self.allow(n_bytes)

    def end(self) -> int:
        """Ends a call; returns how many bytes the process has kept since it had imported what it needs."""
        self._is_active = False
        _set_soft_limit(HARD_MEMORY_BYTES)
        return max(0, address_space() - self._imported)

    def rebase(self) -> None:
        """Counts from now on, after libraries were imported."""
        self._imported = address_space()

    def allow(self, n_bytes: int) -> None:
        """Lets the function take `n_bytes` in all; less than before is possible too."""
        if self._is_active:
            self._allowed = min(n_bytes, self._ceiling)
            _set_soft_limit(self._base + self._allowed)

    def load(self, module: str) -> None:
        """Imports a library that only some calls need; what it takes does not count."""
        if not self._is_active or module in sys.modules:
            return
        before = address_space()
        _set_soft_limit(HARD_MEMORY_BYTES)
        try:
            importlib.import_module(module)
        finally:
            taken = address_space() - before
            self._base += taken
            self._imported += taken
            self.allow(self._allowed)


allowance = Allowance()


def confine() -> None:
    """Bounds this process for good: its address space, and no file of its memory when it crashes."""
    if IS_ENFORCED:
        import resource

        with contextlib.suppress(ValueError, OSError):  # somebody has set a lower limit already
            resource.setrlimit(resource.RLIMIT_AS, (HARD_MEMORY_BYTES, HARD_MEMORY_BYTES))
    if os.name == "posix":
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bound_processor_time(timeout_s: float) -> None:
    """Has the system end this process when it computes for much longer than its parent would let it."""
    if os.name == "posix":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        n_threads = os.cpu_count() or 1
        limit = int(used.ru_utime + used.ru_stime + timeout_s * n_threads) + CPU_MARGIN_S
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def address_space() -> int:
    """Bytes of this process's address space where that is bounded, else 0."""
    if not IS_ENFORCED:
        return 0
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def resident_bytes(process_id: int) -> int:
    """Bytes of memory that a process of ours holds, 0 if that cannot be found out."""
    with contextlib.suppress(OSError, ValueError, AttributeError, IndexError):
        if sys.platform == "linux":
            with open(f"/proc/{process_id}/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if sys.platform == "darwin":
            return _resident_darwin(process_id)
        if sys.platform == "win32":
            return _resident_windows(process_id)
    return 0


def _set_soft_limit(n_bytes: int) -> None:
    if IS_ENFORCED:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _resident_darwin(process_id: int) -> int:
    """`proc_pidinfo(PROC_PIDTASKINFO)` of libproc.h: the second of its fields is the resident size."""
    import ctypes

    fields = (ctypes.c_uint64 * 12)()
    library = ctypes.CDLL("/usr/lib/libproc.dylib")
    n_bytes = library.proc_pidinfo(process_id, 4, ctypes.c_uint64(0), ctypes.byref(fields), ctypes.sizeof(fields))
    return int(fields[1]) if n_bytes > 0 else 0


def _resident_windows(process_id: int) -> int:
    """`GetProcessMemoryInfo`: PagefileUsage is what the process has committed."""
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("cb", ctypes.c_uint32),
            ("PageFaultCount", ctypes.c_uint32),
            *((f"size_{number}", ctypes.c_size_t) for number in range(6)),
            ("PagefileUsage", ctypes.c_size_t),
            ("PeakPagefileUsage", ctypes.c_size_t),
        )

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.OpenProcess(0x1000, False, process_id))  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return 0
    try:
        counters = Counters(cb=ctypes.sizeof(Counters))
        found = kernel.K32GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.cb)
        return int(counters.PagefileUsage) if found else 0
    finally:
        kernel.CloseHandle(handle)
