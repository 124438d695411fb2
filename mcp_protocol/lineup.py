"""Who may begin next: the items that wait and those that run, without any thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from mcp_protocol.turn import Turn

AT_ONCE_WORKERS = 8
"""How many calls that are `at_once` run beside the others: most take a moment, but one may wait for a job."""


class Item(Protocol):
    """What is lined up; one that is claimed need not run any more."""

    turn: Turn

    @property
    def claimed(self) -> bool:
        """Whether somebody else has seen to it."""


I = TypeVar("I", bound=Item)  # noqa: E741


class Lineup(Generic[I]):
    """The items in order of arrival; its owner holds a lock.

    Arguments: how many run at a time, not counting those that are `at_once`. A single one takes them as they come.
    """

    def __init__(self, n_workers: int) -> None:
        self.running: dict[I, None] = {}
        self.waiting: deque[I] = deque()
        self._n_workers = n_workers
        self._n_at_once_waiting = 0

    def __iter__(self) -> Iterator[I]:
        """All items: those that run, then those that wait."""
        yield from self.running
        yield from self.waiting

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self.running and not self.waiting

    @property
    def n_useful_threads(self) -> int:
        """How many threads could have something to do now."""
        most = self._n_workers + (AT_ONCE_WORKERS if self._n_workers > 1 else 0)
        return min(most, len(self.running) + len(self.waiting))

    @property
    def n_free(self) -> int:
        """How many items more could run now, not counting those that are `at_once`."""
        return max(0, self._n_workers - sum(not item.turn.at_once for item in self.running))

    def add(self, item: I) -> None:
        """Puts an item at the end."""
        self.waiting.append(item)
        self._n_at_once_waiting += item.turn.at_once

    def begin(self, item: I) -> None:
        """Notes that an item runs."""
        self.running[item] = None

    def end(self, item: I) -> None:
        """Notes that an item has ended."""
        del self.running[item]

    def begin_next(self) -> I | None:
        """Begins the first item that may run now, `None` when there is none."""
        if self._n_workers > 1:
            self._drop_claimed_first()
            number = self._first_runnable()
        else:
            number = 0 if self.waiting else None
        if number is None:
            return None
        item = self.waiting[number]
        del self.waiting[number]
        self._n_at_once_waiting -= item.turn.at_once
        self.begin(item)
        return item

    def clear(self) -> list[I]:
        """Empties the line; returns what waited."""
        waited = list(self.waiting)
        self.waiting.clear()
        self._n_at_once_waiting = 0
        return waited

    def drop_claimed(self) -> None:
        """Takes out what need not run any more."""
        for item in self.clear():
            if not item.claimed:
                self.add(item)

    def _drop_claimed_first(self) -> None:
        while self.waiting and self.waiting[0].claimed:
            self._n_at_once_waiting -= self.waiting.popleft().turn.at_once

    def _first_runnable(self) -> int | None:
        n_at_once = sum(item.turn.at_once for item in self.running)
        n_others = len(self.running) - n_at_once
        is_open = n_others < self._n_workers and not any(item.turn.exclusive for item in self.running)
        may_begin_at_once = n_at_once < AT_ONCE_WORKERS
        taken = {key for item in self.running for key in item.turn.keys}
        for number, item in enumerate(self.waiting):
            if not is_open and not (may_begin_at_once and self._n_at_once_waiting):
                return None
            if item.claimed:
                continue
            turn = item.turn
            if turn.at_once:
                may_begin = may_begin_at_once
            elif turn.exclusive:
                may_begin = is_open and n_others == 0
            else:
                may_begin = is_open
            if may_begin and taken.isdisjoint(turn.keys):
                return number
            taken |= turn.keys
            if not turn.at_once:
                n_others += 1  # an exclusive one behind it waits for it too
                is_open = is_open and not turn.exclusive
        return None
