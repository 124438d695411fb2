"""The loop of an engine elsewhere goes on, whatever one of its coroutines raises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from engine.errors import EngineUnavailable
from engine.loop_thread import LoopThread

WAIT_S = 30.0


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """A loop that ends with the test."""
    made = LoopThread("test")
    yield made
    made.close(lambda: asyncio.sleep(0))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_what_a_coroutine_raises_reaches_its_caller_and_nobody_else(
    kind: type[BaseException], thread: LoopThread
) -> None:
    async def throw() -> None:
        raise kind

    other = thread.submit(asyncio.sleep(0.05, "other"))
    with pytest.raises(kind):
        thread.submit(throw()).result(WAIT_S)
    assert other.result(WAIT_S) == "other"
    assert thread.submit(asyncio.sleep(0, "next")).result(WAIT_S) == "next"


def test_after_the_end_nothing_is_started() -> None:
    thread = LoopThread("test")
    assert thread.submit(asyncio.sleep(0, 1)).result(WAIT_S) == 1
    ended: list[str] = []

    async def last() -> None:
        ended.append("last")

    thread.close(last)
    assert ended == ["last"]
    with pytest.raises(EngineUnavailable):
        thread.submit(asyncio.sleep(0))
