"""One load for all who need the model at the same time: each is told its phases, and none begins another."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from engine.errors import EngineUnavailable
from engine.interface import OnPhase


def on_passing_thread(work: Callable[[], None]) -> None:
    """Does something on a thread that ends with it, so that what OpenMP keeps for each thread goes as well.

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
    """Any thread may call `run`; the first one loads, those that come meanwhile wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._current: _Load | None = None

    def run(self, load: Callable[[OnPhase], None], on_phase: OnPhase | None) -> float:
        """Loads, or waits for the load that goes on, and returns the seconds that took.

        Every caller is told of the phases in its own thread, and gets the error of a load that fails.
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
        told: str | None = None
        while True:
            with self._changed:
                while not load.is_over and load.phase == told:
                    self._changed.wait()
                if load.is_over:
                    break
                told = load.phase
            if told is not None:
                listener(told)
        if isinstance(load.error, Exception):
            raise copy.copy(load.error)  # one error in several threads would mix up their tracebacks
        if load.error is not None:
            raise EngineUnavailable("The load was broken off. Try again.")
