"""The order of the queue: which waiting item may run next. It has no threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from mcp_protocol.calls.scheduling_policy import SchedulingPolicy

BYPASS_WORKERS = 8
"""Calls with `bypass_queue` that run at a time; most are short, but one may wait for a job."""


class Item(Protocol):
    """An item of the queue; a claimed one does not run any more."""

    policy: SchedulingPolicy

    @property
    def is_claimed(self) -> bool:
        """Whether the item does not need to run."""


I = TypeVar("I", bound=Item)  # noqa: E741


class RunQueue(Generic[I]):
    """The items in order of arrival. Not thread-safe: the caller holds a lock.

    Arguments:
        n_workers: items that run at a time, not counting those with `bypass_queue`. A single worker runs them in order.
    """

    def __init__(self, n_workers: int) -> None:
        self.running: dict[I, None] = {}
        self.waiting: deque[I] = deque()
        self._n_workers = n_workers
        self._n_bypass_waiting = 0

    def __iter__(self) -> Iterator[I]:
        """All items: the running ones, then the waiting ones."""
        yield from self.running
        yield from self.waiting

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self.running and not self.waiting

    @property
    def n_useful_threads(self) -> int:
        """How many threads could run an item now."""
        n_max = self._n_workers + (BYPASS_WORKERS if self._n_workers > 1 else 0)
        return min(n_max, len(self.running) + len(self.waiting))

    @property
    def n_free(self) -> int:
        """How many more items without `bypass_queue` could run now."""
        return max(0, self._n_workers - sum(not item.policy.bypass_queue for item in self.running))

    def add(self, item: I) -> None:
        """Adds an item at the end."""
        self.waiting.append(item)
        self._n_bypass_waiting += item.policy.bypass_queue

    def add_first(self, item: I) -> None:
        """Adds an item at the front."""
        self.waiting.appendleft(item)
        self._n_bypass_waiting += item.policy.bypass_queue

    def start(self, item: I) -> None:
        """Marks an item as running."""
        self.running[item] = None

    def end(self, item: I) -> None:
        """Removes an item that has ended."""
        del self.running[item]

    def start_next(self) -> I | None:
        """Starts the first item that may run now; None if there is none."""
        if self._n_workers > 1:
            self._drop_claimed_first()
            number = self._first_runnable()
        else:
            number = 0 if self.waiting else None
        if number is None:
            return None
        item = self.waiting[number]
        del self.waiting[number]
        self._n_bypass_waiting -= item.policy.bypass_queue
        self.start(item)
        return item

    def clear(self) -> list[I]:
        """Removes and returns all waiting items."""
        waited = list(self.waiting)
        self.waiting.clear()
        self._n_bypass_waiting = 0
        return waited

    def drop_claimed(self) -> None:
        """Removes the waiting items that are claimed."""
        for item in self.clear():
            if not item.is_claimed:
                self.add(item)

    def _drop_claimed_first(self) -> None:
        while self.waiting and self.waiting[0].is_claimed:
            self._n_bypass_waiting -= self.waiting.popleft().policy.bypass_queue

    def _first_runnable(self) -> int | None:
        n_bypass = sum(item.policy.bypass_queue for item in self.running)
        n_others = len(self.running) - n_bypass
        is_open = n_others < self._n_workers and not any(item.policy.exclusive for item in self.running)
        may_bypass = n_bypass < BYPASS_WORKERS
        taken = {key for item in self.running for key in item.policy.keys}
        for number, item in enumerate(self.waiting):
            if not is_open and not (may_bypass and self._n_bypass_waiting):
                return None
            if item.is_claimed:
                continue
            policy = item.policy
            if policy.bypass_queue:
                may_start = may_bypass
            elif policy.exclusive:
                may_start = is_open and n_others == 0
            else:
                may_start = is_open
            if may_start and taken.isdisjoint(policy.keys):
                return number
            taken |= policy.keys
            if not policy.bypass_queue:
                n_others += 1  # a later exclusive item waits for it too
                is_open = is_open and not policy.exclusive
        return None
