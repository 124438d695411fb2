"""A job and its items: their states, their results and their errors.

queued → running → succeeded        an item: the same states
   ↓         ↓ ↘ failed             a job: failed when every item failed, cancelled when it was cancelled
cancelled ←──┘                             before its end, else succeeded
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar

PlanT = TypeVar("PlanT")
ResultT = TypeVar("ResultT")


class State(StrEnum):
    """The state of a job or of one of its items."""

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
    """Goes through the states once."""

    def __init__(self) -> None:
        self.state = State.QUEUED

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return not TRANSITIONS[self.state]

    def move(self, state: State) -> None:
        """Changes the state; raises `RuntimeError` for a transition that is not in the table."""
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"A job cannot go from {self.state} to {state}.")
        self.state = state


class Item(_Stateful, Generic[ResultT]):
    """One image or video of a job; `result` is set when it succeeded, `error` is a sentence when it failed."""

    def __init__(self, index: int, label: str) -> None:
        super().__init__()
        self.index = index
        self.label = label
        self.result: ResultT | None = None
        self.error: str | None = None


class Job(_Stateful, Generic[PlanT, ResultT]):
    """Items that are made together.

    Arguments:
        kind: the beginning of the job's id.
        labels: one for each item.
        plan: what was decided before the job started, kept for reports.
        on_end: called once, when it ends in whatever way.

    Attributes: `created_s` and `finished_s` are seconds since 1970; `progress` is what is done and the whole, in the
    job's own unit, `None` where only its phase is known; `kept_files` are paths of files that remain whatever becomes
    of the job.
    """

    def __init__(
        self, kind: str, labels: Sequence[str], plan: PlanT, on_end: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self.id = f"{kind}_{secrets.token_hex(8)}"
        self.kind = kind
        self.plan = plan
        self.items: list[Item[ResultT]] = [Item(index, label) for index, label in enumerate(labels)]
        self.kept_files: list[str] = []
        self.phase: str | None = None
        self.progress: tuple[float, float] | None = None
        self.created_s = time.time()
        self.finished_s: float | None = None
        self.cancelling = False
        self._on_end = on_end
        self._begun_s = time.monotonic()
        self._ended_s: float | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._when_ended: list[Callable[[], None]] = []

    @property
    def elapsed_s(self) -> float:
        """Seconds from its start to its end, or until now."""
        return (time.monotonic() if self._ended_s is None else self._ended_s) - self._begun_s

    @property
    def ended_for_s(self) -> float | None:
        """Seconds since its end by the monotonic clock; `None` before it."""
        return None if self._ended_s is None else time.monotonic() - self._ended_s

    def count(self, state: State) -> int:
        """How many items are in a state."""
        return sum(item.state is state for item in self.items)

    @property
    def n_ended(self) -> int:
        """How many items have ended."""
        return sum(item.ended for item in self.items)

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end, `timeout_s` at most; returns whether the job has ended."""
        return self._done.wait(timeout_s)

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Calls `callback`, which returns at once and does not raise, at the end, or now if the job has ended."""
        with self._lock:
            if not self._done.is_set():
                self._when_ended.append(callback)
                return
        callback()

    def finish(self) -> None:
        """Ends the job with the state that follows from its items."""
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
        self._on_end()
        with self._lock:
            self._done.set()
        for callback in self._when_ended:
            callback()


AnyJob = Job[Any, Any]
