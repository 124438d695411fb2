"""An asyncio event loop on its own thread, for callers that are not coroutines.

anyio's blocking portal is not used: a `SystemExit` or `KeyboardInterrupt` from one coroutine ends it for all others,
and the interpreter waits for its thread at exit without a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

CLOSE_WAIT_S = 0.5

log = logging.getLogger("http_client")

T = TypeVar("T")


class EventLoopClosed(Exception):
    """The event loop has been closed."""


class EventLoopThread:
    """The thread starts with the first coroutine. Any thread may call the methods."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_closed = False

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine; cancelling its future cancels it.

        Raises: `EventLoopClosed`.
        """
        with self._lock:
            if self.is_closed:
                coroutine.close()
                raise EventLoopClosed
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a last coroutine, cancels what still runs, and ends the thread; waits `CLOSE_WAIT_S` at most."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_end(loop, last), loop)
            thread.join(CLOSE_WAIT_S)


async def cancel_others() -> None:
    """Cancels all other tasks of the running loop and waits until they have ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _end(loop: asyncio.AbstractEventLoop, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await last()
    except BaseException:  # it must not keep the loop from ending
        log.exception("The last task of an event loop failed.")
    finally:
        loop.stop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    is_stopped = False
    while not is_stopped:
        try:
            loop.run_forever()
            is_stopped = True
        except BaseException:  # a SystemExit or the like of one task must not end the others
            with contextlib.suppress(BaseException):
                log.exception("A task ended the event loop, which continues.")
    with contextlib.suppress(BaseException):  # also what a task raises when it is cancelled
        loop.run_until_complete(cancel_others())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
