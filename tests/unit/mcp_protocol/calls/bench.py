"""A queue whose calls are functions, looked up by the name of the tool."""

from __future__ import annotations

import threading
from typing import Any

from mcp_protocol.calls.call import Call
from mcp_protocol.calls.task import IdleTask, Task
from mcp_protocol.calls.work_queue import WorkQueue
from mcp_protocol.connection import Connection
from tests.unit.mcp_protocol.host import make_context

WAIT_S = 30.0


class Bench:
    """A queue whose calls are functions, looked up by the tool's name."""

    def __init__(self, **options: Any) -> None:
        self.connection = Connection()
        self.done: list[Any] = []
        self.n_running = threading.Semaphore(0)
        self.idle = threading.Semaphore(0)
        self.gate = threading.Event()
        self.running = threading.Event()
        self.idle_due_s: float | None = None
        idle_task = IdleTask(Task("rest", self._rest), lambda: self.idle_due_s)
        self.queue = WorkQueue(self._run_call, lambda task: task.run(), self.idle.release, idle_task, **options)

    def _rest(self, enter_phase: Any) -> None:
        self.done.append("rest")

    def call(
        self, request_id: Any, tool: str = "note", timeout_s: float = 0.0, arrived_ago_s: float = 0.0, **options: Any
    ) -> Call:
        """A call that arrived so long ago, put into the queue."""
        context = make_context(connection=options.pop("connection", self.connection))
        call = Call(request_id, tool, {}, context, timeout_s=timeout_s, **options)
        call.arrived_s -= arrived_ago_s
        if call.deadline_s is not None:
            call.deadline_s -= arrived_ago_s
        self.queue.put(call)
        return call

    def cancel(self, request_id: Any) -> Call | None:
        """Cancels a call by its id."""
        return self.queue.cancel(request_id, self.connection)

    def _run_call(self, call: Call) -> None:
        if call.tool == "load":
            call.enter_phase("loading weights")
        if call.tool != "note":
            self.running.set()
            self.n_running.release()
            while not self.gate.wait(0.002) and not (call.tool == "obedient" and call.cancellation.is_set()):
                pass
        if call.claim_response():
            self.done.append(call.request_id)
            call.is_answered = True

    def wait_idle(self, n_items: int) -> None:
        """Waits until the worker has finished so many items."""
        for _ in range(n_items):
            assert self.idle.acquire(timeout=WAIT_S)

    def overdue(self) -> list[tuple[Any, str]]:
        """What the main thread would answer now."""
        answers = []
        for call, text in self.queue.overdue():
            call.is_answered = True
            answers.append((call.request_id, text))
        return answers


def begin(bench: Bench, *request_ids: Any, tool: str = "stubborn", **options: Any) -> list[Call]:
    """Calls that run until the gate opens; returns when they do."""
    calls = [bench.call(request_id, tool, **options) for request_id in request_ids]
    for _ in calls:
        assert bench.n_running.acquire(timeout=WAIT_S)
    return calls
