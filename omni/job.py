"""A job and its items: what they are about, how far they are, and how they ended.

queued → running → succeeded        an item: the same states
   ↓         ↓ ↘ failed             a job: failed when every item failed, cancelled when it was cancelled
cancelled ←──┘                             before its end, else succeeded
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a job or one of its items is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


class _Stateful:
    """Something that goes through the states once."""

    def __init__(self) -> None:
        self.state = State.QUEUED

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return not TRANSITIONS[self.state]

    def move(self, state: State) -> None:
        """Goes to `state`; raises `RuntimeError` for a transition that the table does not have."""
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"A job cannot go from {self.state} to {state}.")
        self.state = state


class Item(_Stateful):
    """One picture or video of a job; `result` is there when it succeeded, `error` is a sentence when it failed."""

    def __init__(self, index: int, label: str) -> None:
        super().__init__()
        self.index = index
        self.label = label
        self.result: Any = None
        self.error: str | None = None


class Job(_Stateful):
    """Some items and how far they are. Times are seconds since 1970, `elapsed_s` counts what has passed so far."""

    def __init__(self, kind: str, labels: Sequence[str], details: Any = None) -> None:
        super().__init__()
        self.id = f"{kind}_{secrets.token_hex(8)}"
        self.kind = kind
        self.details = details
        """What whoever started the job wants to find again, such as notes for the caller."""
        self.items = [Item(index, label) for index, label in enumerate(labels)]
        self.phase: str | None = None
        self.created_s = time.time()
        self.finished_s: float | None = None
        self.cancelling = False
        self._begun_s = time.monotonic()
        self._ended_s: float | None = None
        self._done = threading.Event()

    @property
    def elapsed_s(self) -> float:
        """Seconds from its start to now or to its end."""
        return (time.monotonic() if self._ended_s is None else self._ended_s) - self._begun_s

    @property
    def ended_for_s(self) -> float | None:
        """Seconds since its end, whatever the wall clock has done meanwhile; None before it."""
        return None if self._ended_s is None else time.monotonic() - self._ended_s

    def count(self, state: State) -> int:
        """How many items are in a state."""
        return sum(item.state is state for item in self.items)

    @property
    def n_ended(self) -> int:
        """How many items nothing more will happen to."""
        return sum(item.ended for item in self.items)

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end, so long at most; whether it has come."""
        return self._done.wait(timeout_s)

    def finish(self) -> None:
        """Draws the conclusion from the items."""
        if self.state is State.QUEUED and not self.cancelling:
            self.move(State.RUNNING)
        if self.cancelling and self.count(State.CANCELLED):
            self.move(State.CANCELLED)
        elif self.count(State.FAILED) == len(self.items):
            self.move(State.FAILED)
        else:
            self.move(State.SUCCEEDED)
        self.finished_s = time.time()
        self._ended_s = time.monotonic()
        self._done.set()
