"""The event loop continues whatever one of its coroutines raises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from http_client.event_loop import EventLoopClosed, EventLoopThread

WAIT_S = 30.0


@pytest.fixture
def thread() -> Iterator[EventLoopThread]:
    """A loop that ends with the test."""
    made = EventLoopThread("test")
    yield made
    made.close(lambda: asyncio.sleep(0))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_what_a_coroutine_raises_reaches_its_caller_and_nobody_else(
    kind: type[BaseException], thread: EventLoopThread
) -> None:
    async def throw() -> None:
        raise kind

    other = thread.submit(asyncio.sleep(0.05, "other"))
    with pytest.raises(kind):
        thread.submit(throw()).result(WAIT_S)
    assert other.result(WAIT_S) == "other"
    assert thread.submit(asyncio.sleep(0, "next")).result(WAIT_S) == "next"


def test_after_the_end_nothing_is_started() -> None:
    thread = EventLoopThread("test")
    assert thread.submit(asyncio.sleep(0, 1)).result(WAIT_S) == 1
    ended: list[str] = []

    async def last() -> None:
        ended.append("last")

    thread.close(last)
    assert ended == ["last"]
    with pytest.raises(EventLoopClosed):
        thread.submit(asyncio.sleep(0))


def test_closing_cancels_what_still_runs_after_the_last_coroutine() -> None:
    thread = EventLoopThread("test")
    running = thread.submit(asyncio.sleep(WAIT_S))

    async def last() -> None:
        assert not running.done()

    thread.close(last)
    with pytest.raises(CancelledError):
        running.result(WAIT_S)


@pytest.mark.parametrize("kind", [SystemExit, ValueError])
def test_closing_cancels_what_still_runs_whatever_the_last_coroutine_raises(kind: type[BaseException]) -> None:
    thread = EventLoopThread("test")
    running = thread.submit(asyncio.sleep(WAIT_S))

    async def last() -> None:
        raise kind

    thread.close(last)
    with pytest.raises(CancelledError):
        running.result(WAIT_S)
