"""Limits the memory and the processor time of this process, as far as the system can.

On Linux, allocations beyond the limit (`RLIMIT_AS`) fail, so that libraries can report an error. macOS does not enforce
that limit and Windows has none of these limits: there the parent kills a child whose measured memory is too large.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from sandbox.limits import CPU_MARGIN_S, HARD_MEMORY_BYTES

IS_ENFORCED = sys.platform == "linux"
"""Whether the system enforces the limit."""


class Allowance:
    """The memory that the function may take, in addition to the memory of the process before the call.

    Each child has one object; in any other process it does nothing.
    """

    def __init__(self) -> None:
        self._imported = 0
        self._base = 0
        self._ceiling = 0
        self._allowed = 0
        self._is_active = False

    def begin(self, n_bytes: int, ceiling: int) -> None:
        """Starts a call, which may take `n_bytes` and may raise that to `ceiling`."""
        self._base = address_space()
        self._imported = self._imported or self._base
        self._ceiling = ceiling
        self._is_active = True
        self.allow(n_bytes)

    def end(self) -> int:
        """Ends a call; returns how many bytes the process has kept since its imports."""
        self._is_active = False
        _set_soft_limit(HARD_MEMORY_BYTES)
        return max(0, address_space() - self._imported)

    def rebase(self) -> None:
        """Measures from now on, after libraries were imported."""
        self._imported = address_space()

    def allow(self, n_bytes: int) -> None:
        """Sets the memory that the function may take to `n_bytes`, more or less than before."""
        if self._is_active:
            self._allowed = min(n_bytes, self._ceiling)
            _set_soft_limit(self._base + self._allowed)

    def load(self, module: str) -> None:
        """Imports a library that only some calls need; its memory does not count."""
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
    """Limits the address space of this process, and disables core dumps."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(ValueError, OSError):  # a lower limit is already set
            resource.setrlimit(resource.RLIMIT_AS, (HARD_MEMORY_BYTES, HARD_MEMORY_BYTES))
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bound_processor_time(timeout_s: float) -> None:
    """Makes the system end this process if it computes for much longer than its time limit."""
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        n_threads = os.cpu_count() or 1
        limit = int(used.ru_utime + used.ru_stime + timeout_s * n_threads) + CPU_MARGIN_S
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def address_space() -> int:
    """Bytes of the address space of this process if the system enforces a limit, else 0."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _set_soft_limit(n_bytes: int) -> None:
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
