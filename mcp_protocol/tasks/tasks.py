"""The tasks that are kept, and how many there may be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from mcp_protocol.connection import OWNER_SHARE
from mcp_protocol.tasks.call_task import CallTask

MAX_TASKS = 200
MAX_RESULT_BYTES = 32 << 20
"""For the results of all tasks. A task keeps its result for its whole time, so a new one is refused instead."""


class Tasks:
    """All tasks of this process; any thread may call any method.

    Arguments:
        ttl_s: how many seconds a task is kept after its end.
        n_owners: how many tokens there are; with several, each gets a part of the limits.
        on_end: called when a task has ended.
    """

    def __init__(self, ttl_s: float, n_owners: int, on_end: Callable[[], None]) -> None:
        self._ttl_s = ttl_s
        self._n_shares = 1 if n_owners == 1 else OWNER_SHARE
        self._on_end = on_end
        self._tasks: dict[str, CallTask] = {}
        self._lock = threading.Lock()

    def begin(self, owner: int) -> CallTask | None:
        """A new task; None if the tasks of this owner, or all tasks, are too many or too large."""
        with self._lock:
            self._forget_expired()
            kept = list(self._tasks.values())
            own = [task for task in kept if task.owner == owner]
            if _is_full(kept) or _is_full(own, self._n_shares):
                return None
            task = CallTask(owner, self._ttl_s, self._on_end)
            self._tasks[task.id] = task
            return task

    def find(self, task_id: str, owner: int) -> CallTask | None:
        """The owner's task with this id."""
        with self._lock:
            self._forget_expired()
            task = self._tasks.get(task_id)
        return task if task is not None and task.owner == owner else None

    def of(self, owner: int) -> list[CallTask]:
        """The owner's tasks, newest first."""
        with self._lock:
            self._forget_expired()
            return [task for task in reversed(self._tasks.values()) if task.owner == owner]

    def _forget_expired(self) -> None:
        for task in [task for task in self._tasks.values() if task.has_expired]:
            del self._tasks[task.id]


def _is_full(tasks: Sequence[CallTask], n_shares: int = 1) -> bool:
    n_bytes = sum(task.n_bytes for task in tasks)
    return len(tasks) >= MAX_TASKS // n_shares or n_bytes >= MAX_RESULT_BYTES // n_shares
