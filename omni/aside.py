"""Slow work of a job, on a thread that ends with the work: a finished job leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


async def aside(function: Callable[[], T]) -> T:
    """What a function returns that would hold up the loop; raises what it raises, as `RuntimeError` what asyncio
    cannot hand on."""
    pool = ThreadPoolExecutor(1, "aside")
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, _bearable, function)
    finally:
        pool.shutdown(wait=False)


async def kept(function: Callable[[], T]) -> T:
    """As `aside`, for what is as good as done: cancelling neither stops it nor loses what it returns."""
    working = asyncio.ensure_future(aside(function))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        return await working


def _bearable(function: Callable[[], T]) -> T:
    """A future never ends with StopIteration, and a loop ends with SystemExit and its like."""
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError("StopIteration") from error
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(type(error).__name__) from error
