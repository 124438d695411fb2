"""A cancellation is set once, calls back once, and ends the waits for it and for futures."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from sandbox.cancellation import Cancellation

WAIT_S = 10.0


def test_callbacks_run_once_and_a_late_one_at_once() -> None:
    cancellation, calls = Cancellation(), list[str]()
    cancellation.on_set(lambda: calls.append("early"))
    assert (cancellation.is_set(), calls) == (False, [])
    cancellation.set()
    cancellation.set()
    cancellation.on_set(lambda: calls.append("late"))
    assert (cancellation.is_set(), calls) == (True, ["early", "late"])


def test_withdrawn_callback_does_not_run() -> None:
    cancellation, calls = Cancellation(), list[str]()
    cancellation.on_set(lambda: calls.append("kept"))
    cancellation.on_set(lambda: calls.append("withdrawn"))()
    cancellation.set()
    assert calls == ["kept"]


def test_wait_ends_with_the_cancellation_or_the_time() -> None:
    cancellation = Cancellation()
    assert not cancellation.wait(0.01)
    threading.Timer(0.01, cancellation.set).start()
    assert cancellation.wait(WAIT_S)


def test_wait_for_a_future_ends_with_the_future_the_cancellation_or_the_time() -> None:
    cancellation, future = Cancellation(), Future[str]()
    assert not cancellation.wait_for(future, 0.01)
    threading.Timer(0.01, cancellation.set).start()
    assert not cancellation.wait_for(future, WAIT_S)
    future.set_result("done")
    assert cancellation.wait_for(future, WAIT_S)
    assert cancellation.wait_for(future, 0.0)


def test_wait_for_a_future_ends_when_another_thread_completes_it() -> None:
    cancellation, future = Cancellation(), Future[str]()
    threading.Timer(0.01, future.set_result, ["done"]).start()
    assert cancellation.wait_for(future, WAIT_S)
    assert not cancellation.is_set()
