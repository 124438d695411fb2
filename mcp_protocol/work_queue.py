"""One queue for tool calls and the server's own engine work: in order of arrival with one worker, which is the default,
and side by side with several."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from mcp_protocol import log
from mcp_protocol.call import Call
from mcp_protocol.connection import Connection
from mcp_protocol.lineup import Lineup
from mcp_protocol.turn import Turn

PAUSE_S = 0.05
"""How long a worker waits after a defect of its own, so that one that lasts does not take a processor."""
GRACE_S = 2.0
"""How long past its deadline a running call may take to end by itself before the main thread answers for it."""


class QueueFull(Exception):
    """So many calls wait already that one more is refused; `str()` says how many."""


class Task:
    """Work of the server itself, such as loading the model early; it has no caller.

    Arguments: its name; what to do; whether it leaves the engine alone, so that it need not wait for its turn.
    """

    claimed = False

    def __init__(
        self, name: str, run: Callable[[Callable[[str | None], None]], None], *, at_once: bool = False
    ) -> None:
        self.name = name
        self.turn = Turn(at_once=at_once, exclusive=not at_once)
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
    """The queue and its worker threads, which start as items come.

    Arguments: `run_call` answers one call, `run_task` runs one task (neither may raise); `on_idle` is called by a
    worker after each item, so that the main thread can look whether all is done; `idle_task` is run by a worker when
    it is due and nothing else runs or waits; `on_lost` answers a call, claimed for that, of which its worker was torn
    away; `n_workers`, how many calls run at a time, not counting those that are `at_once`; `max_waiting`, how many
    calls may wait; `share`, how many of one owner, where there are several.
    """

    def __init__(
        self,
        run_call: Callable[[Call], None],
        run_task: Callable[[Task], None],
        on_idle: Callable[[], None],
        idle_task: IdleTask | None = None,
        *,
        on_lost: Callable[[Call], None] = lambda call: None,
        n_workers: int = 1,
        max_waiting: int | None = None,
        share: int | None = None,
    ) -> None:
        self._run_call = run_call
        self._on_lost = on_lost
        self._run_task = run_task
        self._on_idle = on_idle
        self._idle_task = idle_task
        self._in_order = n_workers == 1
        self._max_waiting = max_waiting
        self._share = max_waiting if share is None else share
        self._lineup: Lineup[Call | Task] = Lineup(n_workers)
        self._rested = False
        """Whether the idle task has run since the last item."""
        self._lock = threading.RLock()
        """Always taken itself, never through the condition: that has lines of Python between the lock and the `with`
        block, in which a thread that is thrown out would keep it."""
        self._changed = threading.Condition(self._lock)
        self._ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One entry per item put; its wait costs a third of a condition's, and every call pays for it."""
        self._threads: list[threading.Thread] = []

    def put(self, item: Call | Task) -> None:
        """Adds an item at the end.

        Raises: `QueueFull` for a call when too many wait; `RuntimeError` where the system gives no thread.
        """
        with self._lock:
            if self._share is not None and len(self._lineup.waiting) >= self._share:
                self._make_room(item, self._share)
            self._lineup.add(item)
            self._ready.put(None)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) < self._lineup.n_useful_threads:
                self._start_thread(item)

    def cancel(self, request_id: Any, connection: Connection | None = None) -> Call | None:
        """Cancels a client's oldest unanswered call with this id, and returns it; None when there is none.

        Ids are compared with their type: 1 and "1" are two calls.
        """
        for call in self._calls():
            same_id = call.request_id == request_id and type(call.request_id) is type(request_id)
            if same_id and call.connection is connection and call.claim():
                call.settle()
                return call
        return None

    def cancel_all(self, connection: Connection) -> list[Call]:
        """Cancels all unanswered calls of a client, and returns them."""
        cancelled = [call for call in self._calls() if call.connection is connection and call.claim()]
        for call in cancelled:
            call.settle()
        return cancelled

    @property
    def drained(self) -> bool:
        """Whether every call has its answer written; tasks do not count."""
        with self._lock:
            return all(item.settled for item in self._lineup if isinstance(item, Call))

    @property
    def is_busy(self) -> bool:
        """Whether anything runs or waits, as far as can be told without waiting for a lock."""
        return not self._lineup.is_empty

    @property
    def n_waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._lock:
            return sum(isinstance(item, Call) and not item.claimed for item in self._lineup.waiting)

    def next_deadline_s(self) -> float | None:
        """The moment (`time.monotonic()`) at which `overdue` has something to say: with one worker the oldest call's,
        as it never passes that one by."""
        calls = self._calls()
        moments = [self._overdue_at_s(call) for call in (calls[:1] if self._in_order else calls)]
        return min((moment_s for moment_s in moments if moment_s is not None), default=None)

    def overdue(self) -> Iterator[tuple[Call, str]]:
        """Claims the calls whose deadline passed while nothing could be done for them, with a text for the caller.

        With one worker in order of arrival, and never past a call that is still being worked on: replies stay in order.
        """
        now_s = time.monotonic()
        for call in self._calls():
            overdue_at_s = self._overdue_at_s(call)
            if overdue_at_s is None or now_s < overdue_at_s:
                if self._in_order:
                    return
                continue
            text = self._waiting_text(call, now_s) if self._waits(call) else _GIVEN_UP
            if call.claim():
                yield call, text

    def stop(self, timeout_s: float) -> list[Call]:
        """Ends the work: asks the running calls to stop, waits for them so long, and claims all that is left."""
        with self._lock:
            waiting = self._lineup.clear()
            running = [item for item in self._lineup.running if isinstance(item, Call)]
            for call in running:
                call.stop()
            hurried = [call for call in running if call.phase is None]  # nothing can hurry a load
            self._changed.wait_for(lambda: not any(call in self._lineup.running for call in hurried), timeout_s)
        return [call for call in (*running, *waiting) if isinstance(call, Call) and call.claim()]

    def _start_thread(self, item: Call | Task | None) -> None:
        """Starts one more thread, for an item; where the system gives none, those that are there have to do.

        Raises: `RuntimeError` when there are none; then the item, if it is a call, is not run.
        """
        thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            if self._threads:
                return
            if isinstance(item, Call) and item.claim():
                item.settle()
            raise

    def _make_room(self, item: Call | Task, share: int) -> None:
        """Raises `QueueFull` unless there is room when those are not counted that were cancelled, or that do not stand
        in this call's way."""
        self._lineup.drop_claimed()
        if isinstance(item, Task):
            return
        calls = [other for other in self._lineup.waiting if isinstance(other, Call)]
        before = [other for other in calls if self._in_order or other.turn.at_once == item.turn.at_once]
        del before[: self._lineup.n_free]  # a worker has not taken these yet, but nothing stands in their way
        n_own = sum(other.owner == item.owner for other in before)
        if self._max_waiting is not None and len(before) >= self._max_waiting:
            raise QueueFull(_full(f"{len(before)} calls wait", "no more"))
        if n_own >= share:
            raise QueueFull(_full(f"{n_own} calls wait that came with this token", "no more of one"))

    def _calls(self) -> list[Call]:
        """The unanswered calls, oldest first."""
        with self._lock:
            calls = [item for item in self._lineup if isinstance(item, Call) and not item.claimed]
        return calls if self._in_order else sorted(calls, key=lambda call: call.arrived_s)

    def _overdue_at_s(self, call: Call) -> float | None:
        if call.deadline_s is None:
            return None
        return call.deadline_s if self._waits(call) else call.deadline_s + GRACE_S

    def _waits(self, call: Call) -> bool:
        return call.phase is not None or call not in self._lineup.running

    def _waiting_text(self, call: Call, now_s: float) -> str:
        with self._lock:
            loading = [item for item in (call, *self._lineup.running) if item.phase is not None]
        if loading:
            seconds = round(now_s - loading[0].phase_since_s)
            return f"The model is still loading: {loading[0].phase}, {seconds} s so far; ask again in a moment."
        return "The server is busy with an earlier call; this one was not run. Ask again."

    def _work(self) -> None:
        """What a worker's thread does for ever: whatever a library throws into it, the calls to come need it."""
        try:
            with contextlib.suppress(BaseException):
                log.configure_logging()
            while True:
                try:
                    self._work_on_next()
                except BaseException:
                    self._ready.put(None)  # an item's entry may have been taken, and the item not
                    log.log_failure("a worker")
                    time.sleep(PAUSE_S)
        finally:
            self._replace(threading.current_thread())

    def _replace(self, thread: threading.Thread) -> None:
        """Has another thread go on in place of one that ends: something was thrown while it saw to what was thrown
        before."""
        with self._lock, contextlib.suppress(RuntimeError):  # the next item tries again
            self._threads = [other for other in self._threads if other is not thread]
            self._ready.put(None)
            if len(self._threads) < self._lineup.n_useful_threads:
                self._start_thread(None)

    def _work_on_next(self) -> None:
        item: Call | Task | None = None
        try:
            item = self._next_item()
            if isinstance(item, Task):
                self._run_task(item)
            elif not item.claimed:
                self._run_call(item)
        except BaseException:
            if isinstance(item, Call) and item.claim():
                self._on_lost(item)
            raise
        finally:
            if item is not None:
                self._end(item)

    def _end(self, item: Call | Task) -> None:
        with self._lock:
            self._lineup.end(item)
            self._changed.notify_all()
        if isinstance(item, Call):
            item.end()
        self._on_idle()

    def _next_item(self) -> Call | Task:
        """Waits for what this thread is to do."""
        while True:
            if not self._in_order and (item := self._taken()) is not None:  # what has just ended may have held it up
                return item
            is_time_up = self._wait_for_item(self._idle_wait_s())
            item = self._taken(may_rest=is_time_up)
            if item is not None:
                return item

    def _taken(self, may_rest: bool = False) -> Call | Task | None:
        """The next item that may run, which begins; the idle task when there is none and it is its time."""
        with self._lock:
            item = self._lineup.begin_next()
            if item is None:
                return self._begun_idle_task() if may_rest and self._lineup.is_empty else None
            self._rested = False
            if isinstance(item, Call):
                item.begun = True
                item.hurried = self._call_about_jobs_waits
            if not self._in_order and self._lineup.waiting:
                self._ready.put(None)  # the next one may be free to run as well: another thread is to look
            return item

    def _begun_idle_task(self) -> Task | None:
        if self._rested or self._idle_task is None:
            return None
        due_s = self._idle_task.due_s()  # again: other threads have worked since this one began to wait
        if due_s is None or time.monotonic() < due_s:
            return None
        self._rested = True
        self._lineup.begin(self._idle_task.task)
        return self._idle_task.task

    def _call_about_jobs_waits(self) -> bool:
        with self._lock:
            return any(item.turn.about_jobs and not item.claimed for item in self._lineup.waiting)

    def _wait_for_item(self, timeout_s: float | None) -> bool:
        """Waits for the next item; True when the time was up first. An item that is there goes first at any time."""
        try:
            self._ready.get(timeout=timeout_s)
        except queue.Empty:
            return True
        return False

    def _idle_wait_s(self) -> float | None:
        if self._idle_task is None or self._rested or self._lineup.running:
            return None
        due_s = self._idle_task.due_s()
        return None if due_s is None else max(0.0, due_s - time.monotonic())


def _full(what_waits: str, allowed: str) -> str:
    return (
        f"The server is busy: {what_waits}, and VLLM_MAX_QUEUE allows {allowed}. This one was not run; send it again "
        "when some of the others are answered."
    )


_GIVEN_UP = "The call did not end at its deadline and was given up."
