"""The queue of calls and tasks, with its worker threads.

One worker, the default, runs them in order of arrival; several workers run them concurrently.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from mcp_protocol import log
from mcp_protocol.calls.call import Call
from mcp_protocol.calls.parked_calls import ParkedCalls
from mcp_protocol.calls.run_queue import RunQueue
from mcp_protocol.calls.task import IdleTask, Task
from mcp_protocol.connection import Connection

PAUSE_S = 0.05
"""Pause of a worker after an internal error, so that a repeated error does not use a whole CPU core."""
GRACE_S = 2.0
"""Time a running call gets after its deadline to return by itself, before the main thread responds."""


class QueueFull(Exception):
    """Too many calls wait; `str()` says how many."""


class WorkQueue:
    """The queue and its worker threads, which start when items arrive.

    Arguments:
        run_call: runs one call and responds; must not raise.
        run_task: runs one task; must not raise.
        on_item_end: called by a worker after each item.
        idle_task: run by a worker when it is due and the queue is empty.
        on_lost: responds to a claimed call whose worker was interrupted by an exception.
        on_parked: called when a call has begun to wait for the answer of a user, which has a deadline.
        n_workers: calls that run at a time, not counting those with `bypass_queue`.
        max_waiting: calls that may wait; None for no limit.
        max_waiting_per_owner: calls of one owner that may wait; None for `max_waiting`.
    """

    def __init__(
        self,
        run_call: Callable[[Call], None],
        run_task: Callable[[Task], None],
        on_item_end: Callable[[], None],
        idle_task: IdleTask | None = None,
        *,
        on_lost: Callable[[Call], None] = lambda call: None,
        on_parked: Callable[[], None] = lambda: None,
        n_workers: int = 1,
        max_waiting: int | None = None,
        max_waiting_per_owner: int | None = None,
    ) -> None:
        self._run_call = run_call
        self._on_lost = on_lost
        self._on_parked = on_parked
        self._run_task = run_task
        self._on_item_end = on_item_end
        self._idle_task = idle_task
        self._in_order = n_workers == 1
        self._max_waiting = max_waiting
        self._max_waiting_per_owner = max_waiting if max_waiting_per_owner is None else max_waiting_per_owner
        self._run_queue: RunQueue[Call | Task] = RunQueue(n_workers)
        self._idle_run_due_s: float | None = None
        """The due time of the idle task's run since the last other item, `None` where there was none."""
        self._lock = threading.RLock()
        """Acquired directly, never through the condition: an exception thrown into a thread inside the condition's own
        `__enter__` would leave the lock acquired."""
        self._changed = threading.Condition(self._lock)
        self.parked = ParkedCalls(self._lock, self._put_back)
        self._ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One entry per item; waiting on it costs a third of waiting on a condition."""
        self._threads: list[threading.Thread] = []

    def put(self, item: Call | Task) -> None:
        """Adds an item at the end.

        Raises: `QueueFull` for a call when too many wait; `RuntimeError` when no thread can be started.
        """
        with self._lock:
            limit = self._max_waiting_per_owner
            if limit is not None and len(self._run_queue.waiting) >= limit:
                self._check_room(item, limit)
            self._run_queue.add(item)
            self._wake_thread(item)

    def cancel(self, request_id: Any, connection: Connection) -> Call | None:
        """Cancels the client's oldest unanswered call with this id and returns it; None when there is none.

        Ids are compared with their type: 1 and "1" are two calls.
        """
        for call in self._open_calls():
            same_id = call.request_id == request_id and type(call.request_id) is type(request_id)
            if same_id and call.context.connection is connection and call.claim_response():
                call.mark_answered()
                return call
        return None

    def cancel_all(self, connection: Connection) -> list[Call]:
        """Cancels all unanswered calls of a client and returns them."""
        cancelled = [
            call for call in self._open_calls() if call.context.connection is connection and call.claim_response()
        ]
        for call in cancelled:
            call.mark_answered()
        return cancelled

    @property
    def drained(self) -> bool:
        """Whether every call is answered; tasks do not count."""
        with self._lock:
            is_answered = all(item.is_answered for item in self._run_queue if isinstance(item, Call))
            return is_answered and self.parked.all_answered

    @property
    def is_busy(self) -> bool:
        """Whether anything runs or waits; read without the lock."""
        return not self._run_queue.is_empty

    @property
    def n_waiting(self) -> int:
        """How many calls wait."""
        with self._lock:
            return sum(isinstance(item, Call) and not item.is_claimed for item in self._run_queue.waiting)

    def next_deadline_s(self) -> float | None:
        """The time (`time.monotonic()`) at which `overdue` returns the next call. With one worker this is the oldest
        call's, because responses stay in order."""
        calls = self._calls()
        times_s = [self._overdue_at_s(call) for call in (calls[:1] if self._in_order else calls)]
        times_s.append(self.parked.next_due_s())
        return min((time_s for time_s in times_s if time_s is not None), default=None)

    def overdue(self) -> Iterator[tuple[Call, str]]:
        """Claims the calls whose deadline has passed, and yields each with an error text.

        One worker responds in order: calls behind one that still runs are not overdue.
        """
        now_s = time.monotonic()
        yield from self.parked.overdue(now_s)
        for call in self._calls():
            overdue_at_s = self._overdue_at_s(call)
            if overdue_at_s is None or now_s < overdue_at_s:
                if self._in_order:
                    return
                continue
            text = self._waiting_text(call, now_s) if self._waits(call) else _TIMED_OUT
            if call.claim_response():
                yield call, text

    def stop(self, timeout_s: float) -> list[Call]:
        """Cancels the running calls, waits at most `timeout_s` for them, and claims and returns all that are left."""
        with self._lock:
            waiting = [*self.parked.calls(), *self._run_queue.clear()]
            running = [item for item in self._run_queue.running if isinstance(item, Call)]
            for call in running:
                call.cancellation.set()
            stoppable = [call for call in running if call.phase is None]  # a phase cannot be interrupted
            self._changed.wait_for(lambda: not any(call in self._run_queue.running for call in stoppable), timeout_s)
        return [call for call in (*running, *waiting) if isinstance(call, Call) and call.claim_response()]

    def _put_back(self, call: Call) -> None:
        """Adds a call whose answer has come at the front: it arrived before those that wait."""
        with self._lock, contextlib.suppress(RuntimeError):  # the thread that left the call may be busy, but exists
            self._run_queue.add_first(call)
            self._wake_thread(call)

    def _wake_thread(self, item: Call | Task) -> None:
        """Makes a thread take the next item; raises `RuntimeError` when no thread can be started."""
        self._ready.put(None)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < self._run_queue.n_useful_threads:
            self._start_thread(item)

    def _start_thread(self, item: Call | Task | None) -> None:
        """Starts one more worker thread; if the system refuses, the existing ones continue. Raises `RuntimeError` when
        there is no thread at all; a call `item` is then claimed and not run."""
        thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            if self._threads:
                return
            if isinstance(item, Call) and item.claim_response():
                item.mark_answered()
            raise

    def _check_room(self, item: Call | Task, limit: int) -> None:
        """Raises `QueueFull` when too many calls wait ahead of this one; cancelled calls do not count."""
        self._run_queue.drop_claimed()
        if isinstance(item, Task):
            return
        calls = [other for other in self._run_queue.waiting if isinstance(other, Call)]
        before = [other for other in calls if self._in_order or other.policy.bypass_queue == item.policy.bypass_queue]
        del before[: self._run_queue.n_free]  # a free worker takes these at once
        n_own = sum(other.owner == item.owner for other in before)
        if self._max_waiting is not None and len(before) >= self._max_waiting:
            raise QueueFull(_full(f"{len(before)} calls wait", "no more"))
        if n_own >= limit:
            raise QueueFull(_full(f"{n_own} calls with this token wait", "no more for one token"))

    def _calls(self) -> list[Call]:
        """The unanswered calls, oldest first."""
        with self._lock:
            calls = [item for item in self._run_queue if isinstance(item, Call) and not item.is_claimed]
        return calls if self._in_order else sorted(calls, key=lambda call: call.arrived_s)

    def _open_calls(self) -> list[Call]:
        """The unanswered calls, those that wait for an answer of the user first."""
        return list(dict.fromkeys([*self.parked.calls(), *self._calls()]))

    def _overdue_at_s(self, call: Call) -> float | None:
        if call.deadline_s is None:
            return None
        return call.deadline_s if self._waits(call) else call.deadline_s + GRACE_S

    def _waits(self, call: Call) -> bool:
        return call.phase is not None or call not in self._run_queue.running

    def _waiting_text(self, call: Call, now_s: float) -> str:
        with self._lock:
            busy = [item for item in (call, *self._run_queue.running) if item.phase is not None]
        if busy:
            seconds = round(now_s - busy[0].phase_since_s)
            return f"The server is still {busy[0].phase} after {seconds} s. Try again in a moment."
        return "The server is busy with an earlier call. This call was not run. Try again."

    def _work(self) -> None:
        """The loop of a worker thread; no exception ends it, because later calls need the thread."""
        try:
            with contextlib.suppress(BaseException):
                log.configure_logging()
            while True:
                try:
                    self._work_on_next()
                except BaseException:
                    self._ready.put(None)  # the exception may have come between taking the entry and taking the item
                    log.log_failure("a worker")
                    time.sleep(PAUSE_S)
        finally:
            self._replace(threading.current_thread())

    def _replace(self, thread: threading.Thread) -> None:
        """Starts a thread in place of one that ends because its error handling failed too."""
        with self._lock, contextlib.suppress(RuntimeError):  # the next item tries again
            self._threads = [other for other in self._threads if other is not thread]
            self._ready.put(None)
            if len(self._threads) < self._run_queue.n_useful_threads:
                self._start_thread(None)

    def _work_on_next(self) -> None:
        item: Call | Task | None = None
        try:
            item = self._next_item()
            if isinstance(item, Task):
                self._run_task(item)
            elif not item.is_claimed:
                self._run_call(item)
        except BaseException:
            if isinstance(item, Call) and item.claim_response():
                self._on_lost(item)
            raise
        finally:
            if item is not None:
                self._end(item)

    def _end(self, item: Call | Task) -> None:
        with self._lock:
            self._run_queue.end(item)
            runs_again = isinstance(item, Call) and self.parked.leave(item)
            self._changed.notify_all()
        if runs_again:
            self._on_parked()
        elif isinstance(item, Call):
            item.release()
        self._on_item_end()

    def _next_item(self) -> Call | Task:
        """Waits for the next item of this thread."""
        while True:
            if (
                not self._in_order and (item := self._taken()) is not None
            ):  # the item that has just ended may have blocked it
                return item
            timed_out = False
            try:
                self._ready.get(timeout=self._idle_wait_s())
            except queue.Empty:
                timed_out = True
            item = self._taken(may_idle=timed_out)
            if item is not None:
                return item

    def _taken(self, may_idle: bool = False) -> Call | Task | None:
        """Starts and returns the next item that may run; the idle task when there is none and it is due."""
        with self._lock:
            item = self._run_queue.start_next()
            if item is None:
                return self._started_idle_task() if may_idle and self._run_queue.is_empty else None
            self._idle_run_due_s = None
            if isinstance(item, Call):
                item.started = True
                item.should_yield = self._job_control_waits
            if not self._in_order and self._run_queue.waiting:
                self._ready.put(None)  # another thread checks whether the next item may run too
            return item

    def _started_idle_task(self) -> Task | None:
        due_s = self._idle_due_s()  # ask again: other threads have run items meanwhile
        if due_s is None or self._idle_task is None or time.monotonic() < due_s:
            return None
        self._idle_run_due_s = due_s
        self._run_queue.start(self._idle_task.task)
        return self._idle_task.task

    def _job_control_waits(self) -> bool:
        with self._lock:
            return any(item.policy.is_job_control and not item.is_claimed for item in self._run_queue.waiting)

    def _idle_wait_s(self) -> float | None:
        if self._run_queue.running:
            return None
        due_s = self._idle_due_s()
        return None if due_s is None else max(0.0, due_s - time.monotonic())

    def _idle_due_s(self) -> float | None:
        """When the idle task is to run next; after a run only for what is due later."""
        due_s = None if self._idle_task is None else self._idle_task.due_s()
        is_done = self._idle_run_due_s is not None and due_s is not None and due_s <= self._idle_run_due_s
        return None if is_done else due_s


def _full(what_waits: str, allowed: str) -> str:
    return (
        f"The server is busy: {what_waits}, and VLLM_MAX_QUEUE allows {allowed}. This call was not run. Send it again "
        "when others are answered."
    )


_TIMED_OUT = "The call did not end at its deadline and was stopped."
