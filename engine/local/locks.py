"""Locks for the engine: one that is granted in order, and one for shared or exclusive use."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator

ASK_S = 0.1
"""How often a thread that waits is asked whether it gives up."""


class FairLock:
    """A lock that is granted in the order of the requests; use it as a context manager.

    The thread that makes steps releases the lock and takes it again at once, a thousand times a second. With a plain
    lock no other thread would ever get it.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def acquire(self, gives_up: Callable[[], bool] | None = None) -> bool:
        """Takes it; returns False when `gives_up`, which is called now and then while others hold it, says so first."""
        with self._guard:
            if not self._held:
                self._held = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        while not turn.acquire(timeout=-1 if gives_up is None else ASK_S):
            if gives_up is not None and gives_up() and self._withdraw(turn):
                return False
        return True

    def _withdraw(self, turn: threading.Lock) -> bool:
        """Leaves the queue, unless it is this thread's turn by now."""
        with self._guard:
            if is_waiting := turn in self._waiting:
                self._waiting.remove(turn)
            return is_waiting

    def release(self) -> None:
        """Hands it to the next thread."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()  # the lock stays held, for the next thread
            else:
                self._held = False


ENGINES = FairLock()
"""Held by whoever loads or releases an engine, adds a request to one in this process, or makes its step.

vLLM keeps in global variables what a step computes in, the process groups, and the data type of new tensors during a
load. Two engines that do any of these at a time break each other (measured with 0.32).
"""


class ReadWriteLock:
    """A lock that many threads share, or one holds alone; the latter has precedence over later users."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._n_users = 0
        self._n_waiting = 0
        self._is_alone = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Holds it together with others."""
        with self._changed:
            while self._is_alone or self._n_waiting:
                self._changed.wait()
            self._n_users += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_users -= 1
                if self._n_waiting and not self._n_users:
                    self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds it alone."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self, timeout_s: float | None = None) -> bool:
        """Takes it alone; returns False when the time is up first."""
        with self._changed:
            self._n_waiting += 1
            is_free = self._changed.wait_for(lambda: not self._is_alone and not self._n_users, timeout_s)
            self._n_waiting -= 1
            if is_free:
                self._is_alone = True
            else:
                self._changed.notify_all()
            return is_free

    def release(self) -> None:
        """Releases it after `acquire`."""
        with self._changed:
            self._is_alone = False
            self._changed.notify_all()
