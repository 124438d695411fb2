"""One budget of bytes for what the server holds for others: waiting calls, unfinished bodies, answers that nobody has
read yet, decoded images.

    budget = ByteBudget(4 << 30)
    messages = budget.part(4)        # counts in the whole as well, and never takes more than a quarter of it
    with messages.hold() as holding:
        holding.add(len(chunk))      # raises OverBudget, with a sentence for the caller

Whoever keeps bytes for a caller holds as many here first, and releases them when they are gone.
"""

from __future__ import annotations

import os
import threading

SETTING = "VLLM_MAX_HELD_BYTES"
MEMORY_SHARE = 4
"""By default the budget is this part of the machine's memory: a quarter."""
MOST_BYTES = 4 << 30
"""The largest default: 80 images of 12 megapixels."""
LEAST_BYTES = 256 << 20
"""The smallest default: a quarter of it holds the longest line that is read by default."""
UNKNOWN_MEMORY_BYTES = 8 << 30


class OverBudget(Exception):
    """There is no room for so many bytes now; `str()` is a sentence for the caller, which says what to do."""


class ByteBudget:
    """How many bytes may be held at a time. Any thread may use it.

    Arguments: the most bytes; the budget that this one is a part of, whose bytes its own count among.
    """

    def __init__(self, max_bytes: int, whole: ByteBudget | None = None) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self.lock: threading.Lock = threading.Lock() if whole is None else whole.lock
        self._whole = whole

    def part(self, divisor: int) -> ByteBudget:
        """A budget for one kind of things, so that it leaves room for the others."""
        return ByteBudget(self.max_bytes // divisor, self)

    def hold(self, n_bytes: int = 0) -> Holding:
        """Takes so many bytes, until the holding is released.

        Raises: `OverBudget`.
        """
        holding = Holding(self)
        holding.add(n_bytes)
        return holding

    def take(self, n_bytes: int) -> None:
        """Counts so many bytes more; its holdings do, which hold the lock.

        Raises: `OverBudget`, and then nothing has changed.
        """
        if self.held_bytes + n_bytes > self.max_bytes:
            raise OverBudget(_sentence(n_bytes, self))
        if self._whole is not None:
            self._whole.take(n_bytes)
        self.held_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Counts so many bytes less; see `take`."""
        if self._whole is not None:
            self._whole.give_back(n_bytes)
        self.held_bytes -= n_bytes


class Holding:
    """Bytes that somebody has taken from a budget. Any thread may use it."""

    __slots__ = ("_budget", "_is_over", "n_bytes")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._is_over = False
        self.n_bytes = 0

    def add(self, n_bytes: int) -> None:
        """Takes so many bytes more; none after the release, when whoever still adds works for nobody.

        Raises: `OverBudget`; what was held before stays held.
        """
        with self._budget.lock:
            if not self._is_over:
                self._budget.take(n_bytes)
                self.n_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Gives so many of them back."""
        with self._budget.lock:
            if not self._is_over:
                self._budget.give_back(n_bytes)
                self.n_bytes -= n_bytes

    def release(self) -> None:
        """Gives all of them back, for good."""
        with self._budget.lock:
            self._budget.give_back(self.n_bytes)
            self._is_over, self.n_bytes = True, 0

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def default_bytes() -> int:
    """The budget where no setting gives one: a share of this machine's memory, or of its control group's."""
    return max(LEAST_BYTES, min(MOST_BYTES, _memory_bytes() // MEMORY_SHARE))


def _memory_bytes() -> int:
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return UNKNOWN_MEMORY_BYTES
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            return min(machine, int(file.read()))
    except (OSError, ValueError):  # no such group, or "max", which stands for no limit
        return machine


def _sentence(n_bytes: int, budget: ByteBudget) -> str:
    if n_bytes > budget.max_bytes:
        return (
            f"This takes about {_mib(n_bytes)} MiB of memory; {SETTING} leaves {_mib(budget.max_bytes)} MiB for it. "
            "Send less at once, or raise that setting."
        )
    return (
        f"The server is busy: this takes about {_mib(n_bytes)} MiB of memory, and {_mib(budget.held_bytes)} of the "
        f"{_mib(budget.max_bytes)} MiB that {SETTING} leaves for it are in use. It was not done; send it again when "
        "some of the others are answered, or send less at once."
    )


def _mib(n_bytes: int) -> str:
    return f"{max(1, round(n_bytes / (1 << 20))) if n_bytes else 0:,}"
