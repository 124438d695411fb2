"""The cancel event of one call, with callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future  # with logging behind it, too much for the start


class Cancellation:
    """Is set once and stays set. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._callbacks: dict[object, Callable[[], object]] = {}

    def is_set(self) -> bool:
        """Whether the work should stop."""
        return self._is_set

    def set(self) -> None:
        """Sets it and runs the callbacks, in this thread; does nothing the second time."""
        with self._lock:
            self._is_set = True
            callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            callback()

    def on_set(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Runs `callback` once when it is set, or now if it is set already; returns a function that withdraws it.

        The callback runs in the thread that cancels: it must not block or raise.
        """
        key = object()
        with self._lock:
            if not self._is_set:
                self._callbacks[key] = callback
                return lambda: self._withdraw(key)
        callback()
        return lambda: None

    def _withdraw(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is set, `timeout_s` at most; returns whether it is set."""
        event = threading.Event()
        withdraw = self.on_set(event.set)
        try:
            return event.wait(timeout_s)
        finally:
            withdraw()

    def wait_for(self, future: Future[Any], timeout_s: float | None) -> bool:
        """Waits until a future is done or this is set, `timeout_s` at most; returns whether the future is done."""
        event = threading.Event()
        withdraw = self.on_set(event.set)
        try:
            future.add_done_callback(lambda _: event.set())
            event.wait(timeout_s)
        finally:
            withdraw()
        return future.done()
