"""One queue, one worker: tool calls and the server's own engine work run one after another in order of arrival."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from mcp_protocol import log
from mcp_protocol.call import Call
from mcp_protocol.connection import Connection

GRACE_S = 2.0
"""How long past its deadline a running call may take to end by itself before the main thread answers for it."""


class Task:
    """Work of the server itself, such as loading the model early; it has no caller."""

    def __init__(self, name: str, run: Callable[[Callable[[str | None], None]], None]) -> None:
        self.name = name
        self.phase: str | None = None
        self.phase_since_s = time.monotonic()
        self._run = run

    def run(self, on_phase: Callable[[], None] = lambda: None) -> None:
        """Runs the task; what it reports as its phase is shown to calls that wait behind it."""

        def enter_phase(phase: str | None) -> None:
            self.phase, self.phase_since_s = phase, time.monotonic()
            on_phase()

        self._run(enter_phase)


class IdleTask:
    """A task for when nothing else is to be done.

    `due_s` tells the moment (`time.monotonic()`) from which on it may run, `None` for not now. The worker asks after
    each item, so only what items do can change the answer; after a run it asks again only when another item has run.
    """

    def __init__(self, task: Task, due_s: Callable[[], float | None]) -> None:
        self.task = task
        self.due_s = due_s


class WorkQueue:
    """The queue and its worker thread, which starts with the first item.

    Arguments: `run_call` answers one call, `run_task` runs one task (neither may raise); `on_idle` is called by the
    worker after each item, so that the main thread can look whether all is done; `idle_task` is run by the worker
    when it is due and no item waits.
    """

    def __init__(
        self,
        run_call: Callable[[Call], None],
        run_task: Callable[[Task], None],
        on_idle: Callable[[], None],
        idle_task: IdleTask | None = None,
    ) -> None:
        self._run_call = run_call
        self._run_task = run_task
        self._on_idle = on_idle
        self._idle_task = idle_task
        self._items: deque[Call | Task] = deque()
        self._current: Call | Task | None = None
        self._changed = threading.Condition()
        self._ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One entry per item put; its wait costs a third of a condition's, and every call pays for it."""
        self._worker: threading.Thread | None = None

    def put(self, item: Call | Task) -> None:
        """Adds an item at the end."""
        with self._changed:
            self._items.append(item)
        self._ready.put(None)
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="worker", daemon=True)
            self._worker.start()

    def cancel(self, request_id: Any, connection: Connection | None = None) -> Call | None:
        """Cancels a client's oldest unanswered call with this id, and returns it; None when there is none.

        Ids are compared with their type: 1 and "1" are two calls.
        """
        for call in self._calls():
            same_id = call.request_id == request_id and type(call.request_id) is type(request_id)
            if same_id and call.connection is connection and call.claim():
                call.settled = True
                return call
        return None

    def cancel_all(self, connection: Connection) -> list[Call]:
        """Cancels all unanswered calls of a client, and returns them."""
        cancelled = [call for call in self._calls() if call.connection is connection and call.claim()]
        for call in cancelled:
            call.settled = True
        return cancelled

    @property
    def drained(self) -> bool:
        """Whether every call has its answer written; tasks do not count."""
        with self._changed:
            items = [self._current, *self._items]
        return all(item.settled for item in items if isinstance(item, Call))

    @property
    def n_waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._changed:
            return sum(isinstance(item, Call) and not item.claimed for item in self._items)

    def next_deadline_s(self) -> float | None:
        """The moment (`time.monotonic()`) at which `overdue` has something to say: the oldest call's, as it never
        passes that one by."""
        oldest = next(iter(self._calls()), None)
        return None if oldest is None else self._overdue_at_s(oldest)

    def overdue(self) -> Iterator[tuple[Call, str]]:
        """Claims the calls whose deadline passed while nothing could be done for them, with a text for the caller.

        In order of arrival, and never past a call that is still being worked on: replies stay in order.
        """
        now_s = time.monotonic()
        for call in self._calls():
            overdue_at_s = self._overdue_at_s(call)
            if overdue_at_s is None or now_s < overdue_at_s:
                return
            waits = self._waits(call)
            text = self._waiting_text(now_s) if waits else "The call did not end at its deadline and was given up."
            if call.claim():
                yield call, text

    def stop(self, timeout_s: float) -> list[Call]:
        """Ends the work: asks the running call to stop, waits for it so long, and claims all that is left."""
        with self._changed:
            waiting = [item for item in self._items if isinstance(item, Call)]
            self._items.clear()
            current = self._current
            if isinstance(current, Call):
                current.stop()
                if current.phase is None:  # nothing can hurry a load
                    self._changed.wait_for(lambda: self._current is not current, timeout_s)
                waiting.insert(0, current)
        return [call for call in waiting if call.claim()]

    def _calls(self) -> list[Call]:
        """The unanswered calls, the running one first."""
        with self._changed:
            items = [self._current, *self._items]
        return [item for item in items if isinstance(item, Call) and not item.claimed]

    def _overdue_at_s(self, call: Call) -> float | None:
        if call.deadline_s is None:
            return None
        return call.deadline_s if self._waits(call) else call.deadline_s + GRACE_S

    def _waits(self, call: Call) -> bool:
        return call is not self._current or call.phase is not None

    def _waiting_text(self, now_s: float) -> str:
        current = self._current
        if current is not None and current.phase is not None:
            seconds = round(now_s - current.phase_since_s)
            return f"The model is still loading: {current.phase}, {seconds} s so far; ask again in a moment."
        return "The server is busy with an earlier call; this one was not run. Ask again."

    def _work(self) -> None:
        log.configure_logging()
        rested = False
        while True:
            rested = not self._wait_for_item(None if rested else self._idle_wait_s())
            with self._changed:
                if rested and self._idle_task is not None:
                    item: Call | Task = self._idle_task.task
                elif self._items:
                    item = self._items.popleft()
                else:  # `stop` took them
                    continue
                self._current = item
                if isinstance(item, Call):
                    item.hurried = self._call_about_jobs_waits
            if isinstance(item, Task):
                self._run_task(item)
            elif not item.claimed:
                self._run_call(item)
            with self._changed:
                self._current = None
                self._changed.notify_all()
            self._on_idle()

    def _call_about_jobs_waits(self) -> bool:
        with self._changed:
            return any(isinstance(item, Call) and item.about_jobs and not item.claimed for item in self._items)

    def _wait_for_item(self, timeout_s: float | None) -> bool:
        """Waits for the next item; False when the time was up first. An item that is there goes first at any time."""
        try:
            self._ready.get(timeout=timeout_s)
        except queue.Empty:
            return False
        return True

    def _idle_wait_s(self) -> float | None:
        due_s = self._idle_task.due_s() if self._idle_task is not None else None
        return None if due_s is None else max(0.0, due_s - time.monotonic())
