"""Who may use the engine when: one thread after another, or many side by side until one needs it alone."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator


class FairLock:
    """A lock that threads get in the order in which they asked; use it as a context manager.

    Whoever steps an engine lets go of the lock and takes it again at once, a thousand times a second. A plain lock
    would never let anybody else in.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *exception: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()  # the lock stays held, by the next one
            else:
                self._held = False


class SharedUse:
    """Something that many threads use at a time, or one of them alone, who waits for the others and goes before those
    that come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._n_users = 0
        self._n_waiting = 0
        self._is_alone = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Uses it beside others."""
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
        """Uses it while nobody else does."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self, timeout_s: float | None = None) -> bool:
        """Waits until nobody else uses it; False when the time was up first."""
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
        """Ends a use alone."""
        with self._changed:
            self._is_alone = False
            self._changed.notify_all()
