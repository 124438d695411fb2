"""One budget of bytes for all data that the server holds for callers: waiting calls, incomplete HTTP bodies, unread
replies, decoded images.

    budget = ByteBudget(4 << 30)
    messages = budget.part(4)        # at most a quarter of the budget, and part of its total
    with messages.hold() as holding:
        holding.add(len(chunk))      # raises OverBudget, with a sentence for the caller

Code that keeps bytes for a caller takes them from the budget first, and releases them afterwards.
"""

from __future__ import annotations

import threading

from operating_system.machine import memory_bytes

SETTING = "VLLM_MAX_HELD_BYTES"
MEMORY_SHARE = 4
"""The default is the memory of the machine divided by this."""
MAX_BYTES = 4 << 30
"""The largest default: 80 images of 12 megapixels."""
MIN_BYTES = 256 << 20
"""The smallest default: a quarter of it holds the longest message."""
UNKNOWN_MEMORY_BYTES = 8 << 30


class OverBudget(Exception):
    """The budget has no room for these bytes; `str()` is a sentence with advice for the caller."""


class ByteBudget:
    """Limits how many bytes are held at a time. Any thread may use it.

    Arguments:
        max_bytes: the limit.
        whole: the budget that this one is a part of; it counts these bytes too.
    """

    def __init__(self, max_bytes: int, whole: ByteBudget | None = None) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self.lock: threading.Lock = threading.Lock() if whole is None else whole.lock
        self._whole = whole

    def part(self, divisor: int) -> ByteBudget:
        """A smaller budget for one kind of data, which leaves room for the others."""
        return ByteBudget(self.max_bytes // divisor, self)

    def hold(self, n_bytes: int = 0) -> Holding:
        """Takes `n_bytes` until the holding is released; raises `OverBudget`."""
        holding = Holding(self)
        holding.add(n_bytes)
        return holding

    def take(self, n_bytes: int) -> None:
        """Counts `n_bytes` more; only for holdings, which hold the lock.

        Raises: `OverBudget`; then nothing has changed.
        """
        if self.held_bytes + n_bytes > self.max_bytes:
            raise OverBudget(_sentence(n_bytes, self))
        if self._whole is not None:
            self._whole.take(n_bytes)
        self.held_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Counts `n_bytes` less; see `take`."""
        if self._whole is not None:
            self._whole.give_back(n_bytes)
        self.held_bytes -= n_bytes


class Holding:
    """Bytes taken from a budget. Any thread may use it."""

    __slots__ = ("_budget", "_is_over", "n_bytes")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._is_over = False
        self.n_bytes = 0

    def add(self, n_bytes: int) -> None:
        """Takes `n_bytes` more; after the release it does nothing.

        Raises: `OverBudget`; then the earlier bytes are still held.
        """
        with self._budget.lock:
            if not self._is_over:
                self._budget.take(n_bytes)
                self.n_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Gives `n_bytes` back."""
        with self._budget.lock:
            if not self._is_over:
                self._budget.give_back(n_bytes)
                self.n_bytes -= n_bytes

    def release(self) -> None:
        """Gives all bytes back, finally."""
        with self._budget.lock:
            self._budget.give_back(self.n_bytes)
            self._is_over, self.n_bytes = True, 0

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def default_bytes() -> int:
    """The default budget: a share of the memory of this machine, or of its control group."""
    return max(MIN_BYTES, min(MAX_BYTES, (memory_bytes() or UNKNOWN_MEMORY_BYTES) // MEMORY_SHARE))


def _sentence(n_bytes: int, budget: ByteBudget) -> str:
    if n_bytes > budget.max_bytes:
        return (
            f"This needs about {_mib(n_bytes)} MiB of memory; {SETTING} allows {_mib(budget.max_bytes)} MiB. "
            "Send less at once, or raise that setting."
        )
    return (
        f"The server is busy: this needs about {_mib(n_bytes)} MiB of memory, and {_mib(budget.held_bytes)} of the "
        f"{_mib(budget.max_bytes)} MiB that {SETTING} allows are in use. It was not run; send it again "
        "when other calls have ended, or send less at once."
    )


def _mib(n_bytes: int) -> str:
    return f"{max(1, round(n_bytes / (1 << 20))) if n_bytes else 0:,}"
