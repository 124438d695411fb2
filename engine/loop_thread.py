"""An asyncio loop on a thread of its own, for an engine whose owner is no coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from engine.errors import EngineUnavailable

CLOSE_WAIT_S = 0.5

log = logging.getLogger("engine")

T = TypeVar("T")


class LoopThread:
    """The thread begins with the first coroutine; `submit` and `close` may be called from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_closed = False

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine; cancelling its future cancels it.

        Raises: `EngineUnavailable` after the end.
        """
        with self._lock:
            if self.is_closed:
                coroutine.close()
                raise EngineUnavailable("The server is shutting down.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Breaks off whatever runs, then runs one coroutine more, and ends the thread."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_end(loop, last), loop)
            thread.join(CLOSE_WAIT_S)


async def _end(loop: asyncio.AbstractEventLoop, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        others = asyncio.all_tasks(loop) - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await last()
    finally:
        loop.stop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while not _stopped(loop):
        continue
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _stopped(loop: asyncio.AbstractEventLoop) -> bool:
    """Runs the loop; False where something threw it out that wants to end the process, and others still need it."""
    try:
        loop.run_forever()
    except BaseException:
        with contextlib.suppress(BaseException):
            log.exception("Something broke off the loop, which goes on.")
        return False
    return True
