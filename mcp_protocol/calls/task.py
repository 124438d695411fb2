"""Work of the server itself that runs in the queue of calls."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from mcp_protocol.calls.scheduling_policy import SchedulingPolicy


class Task:
    """Work of the server that no client requested.

    Arguments:
        name: for the log.
        run: does the work; it is given a function that starts a phase (see `Call.enter_phase`).
        bypass_queue: the task does not wait for calls, because it does not use the engine.
    """

    is_claimed = False

    def __init__(
        self, name: str, run: Callable[[Callable[[str | None], None]], None], *, bypass_queue: bool = False
    ) -> None:
        self.name = name
        self.policy = SchedulingPolicy(bypass_queue=bypass_queue, exclusive=not bypass_queue)
        self.phase: str | None = None
        self.phase_since_s = time.monotonic()
        self._run = run

    def run(self, on_phase_change: Callable[[], None] = lambda: None) -> None:
        """Runs the task; calls that time out behind it report its phase."""

        def enter_phase(phase: str | None) -> None:
            self.phase, self.phase_since_s = phase, time.monotonic()
            on_phase_change()

        self._run(enter_phase)


class IdleTask(msgspec.Struct, frozen=True):
    """A task that runs when the queue is empty.

    Arguments:
        task: what to run.
        due_s: the time (`time.monotonic()`) from which the task may run; None for not now. A worker asks after each
            item. Until another item has run, the task runs again only for a later time: a failure is not repeated.
    """

    task: Task
    due_s: Callable[[], float | None]
