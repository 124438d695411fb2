"""One load for all callers that need the model at the same time."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from engine.errors import EngineUnavailable
from engine.interface import OnPhase


def run_in_temporary_thread(work: Callable[[], None]) -> None:
    """Runs `work` in a thread that ends with it: OpenMP's workers for that thread end as well.

    Raises: what the work raises; `RuntimeError` when the system gives no thread.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="load", daemon=True).start()
    done.result()


@dataclass(slots=True)
class _Load:
    phase: str | None = None
    is_over: bool = False
    error: BaseException | None = None


class SharedLoad:
    """Any thread may call `run`; the first one loads, and others wait for that load."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._current: _Load | None = None

    def run(self, load: Callable[[OnPhase], None], on_phase: OnPhase | None) -> float:
        """Loads, or waits for the load in progress; returns the seconds that took.

        Every caller's `on_phase` runs in its own thread, and every caller gets the error of a load that fails.
        """
        started_s = time.monotonic()
        listener = on_phase or (lambda phase: None)
        with self._changed:
            joined = self._current
            if joined is None:
                self._current = _Load()
        if joined is None:
            self._load(load, listener)
        else:
            self._wait_for(joined, listener)
        return time.monotonic() - started_s

    def _load(self, load: Callable[[OnPhase], None], listener: OnPhase) -> None:
        current = self._current
        assert current is not None

        def enter(phase: str) -> None:
            with self._changed:
                current.phase = phase
                self._changed.notify_all()
            listener(phase)

        try:
            load(enter)
        except BaseException as error:
            current.error = error
            raise
        finally:
            with self._changed:
                self._current, current.is_over = None, True
                self._changed.notify_all()

    def _wait_for(self, load: _Load, listener: OnPhase) -> None:
        reported: str | None = None
        while True:
            with self._changed:
                while not load.is_over and load.phase == reported:
                    self._changed.wait()
                if load.is_over:
                    break
                reported = load.phase
            if reported is not None:
                listener(reported)
        if isinstance(load.error, Exception):
            raise copy.copy(load.error)  # a shared error would mix up the threads' tracebacks
        if load.error is not None:
            raise EngineUnavailable("The load was interrupted. Try again.")
