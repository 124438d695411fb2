"""Jobs: generations that go on while other calls are answered.

All of them run on one event loop in a thread of its own, so that one that is cancelled breaks off its request at once.
Other threads start jobs, look at them, wait for them and cancel them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from omni.errors import JobCancelled, OmniError, TooManyJobs, UnknownJob
from omni.job import Item, Job, State

T = TypeVar("T")

MAX_OPEN_JOBS = 32
MAX_KEPT_JOBS = 200
"""With 20 prompts of 20,000 characters each, the longest there are, these take 80 MB."""
CLOSE_S = 0.5
LOOK_S = 0.02
"""How often a thread that waits for an answer looks whether it should wait on."""

logger = logging.getLogger("omni")


class Slots:
    """How many items run at once on one server, over all jobs; each job brings its own limit."""

    def __init__(self) -> None:
        self._n_taken = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, limit: int) -> AsyncIterator[None]:
        """A slot, as soon as fewer than `limit` are taken."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._n_taken < limit)
            self._n_taken += 1
        try:
            yield
        finally:
            self._n_taken -= 1
            async with self._changed:
                self._changed.notify_all()


class Jobs:
    """All jobs of this process, and the thread they run on, which starts with the first of them.

    Arguments: for how many seconds a finished job can still be asked about.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots: dict[str, Slots] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._at_end: list[Callable[[], Awaitable[None]]] = []

    def at_end(self, close: Callable[[], Awaitable[None]]) -> None:
        """Has something closed on the loop, after the last job."""
        self._at_end.append(close)

    def start(
        self,
        kind: str,
        labels: Sequence[str],
        work: Callable[[Job, Item], Awaitable[Any]],
        *,
        server: str,
        limit: int = 1,
        details: Any = None,
    ) -> Job:
        """Starts a job and returns at once.

        Arguments: what begins its id; a label for each item; `work`, which makes one item's result, on the loop; the
        URL of the server that does it, whose slots the items share with those of all other jobs; how many items may
        run there at once.

        Raises: `TooManyJobs`.
        """
        job = Job(kind, labels, details)
        with self._lock:
            self._forget_old()
            if sum(not other.ended for other in self._jobs.values()) >= MAX_OPEN_JOBS:
                raise TooManyJobs(
                    f"{MAX_OPEN_JOBS} jobs are open already. Wait for one to end (`list_jobs`), or cancel one "
                    "(`cancel_batch`)."
                )
            self._jobs[job.id] = job
        self._submit(self._run(job, work, server, limit))
        return job

    def find(self, job_id: str) -> Job:
        """The job of that id; raises `UnknownJob`."""
        with self._lock:
            self._forget_old()
            job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    def list(self) -> list[Job]:
        """All jobs that are kept, the newest first."""
        with self._lock:
            self._forget_old()
            return list(reversed(self._jobs.values()))

    def cancel(self, job: Job) -> None:
        """Asks a job to stop: what runs is broken off, what waits never starts, what is done is kept."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, job)

    def ask(self, coroutine: Coroutine[Any, Any, T], cancelled: Callable[[], bool] = lambda: False) -> T:
        """Runs something short on the loop and waits for it; raises what it raises, or `JobCancelled`."""
        future = self._submit(coroutine)
        while True:
            try:
                return future.result(LOOK_S)
            except TimeoutError:
                if future.done():  # meanwhile, or the error is the coroutine's own
                    return future.result()
                if cancelled():
                    future.cancel()
                    raise JobCancelled("The call was cancelled.") from None

    def close(self) -> None:
        """Breaks everything off and ends the thread."""
        if self._closed or self._loop is None or self._thread is None:
            self._closed = True
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._thread.join(CLOSE_S)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._closed:
                coroutine.close()
                raise JobCancelled("The server is shutting down.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run_to_its_end, args=(self._loop,), name="jobs", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _run(self, job: Job, work: Callable[[Job, Item], Awaitable[Any]], server: str, limit: int) -> None:
        slots = self._slots.setdefault(server, Slots())
        task = asyncio.current_task()
        assert task is not None
        self._tasks[job.id] = task
        try:
            if not job.cancelling:
                items = (self._run_item(job, item, work, slots, limit) for item in job.items)
                # Otherwise the first that is broken off would end the waiting for one that is just being finished.
                await asyncio.gather(*items, return_exceptions=True)
        except asyncio.CancelledError:
            logger.debug("job %s was cancelled", job.id)
        finally:
            del self._tasks[job.id]
            for item in job.items:
                if not item.ended:
                    item.move(State.CANCELLED)
            job.finish()

    async def _run_item(
        self, job: Job, item: Item, work: Callable[[Job, Item], Awaitable[Any]], slots: Slots, limit: int
    ) -> None:
        async with slots.taken(limit):
            if job.state is State.QUEUED:
                job.move(State.RUNNING)
            item.move(State.RUNNING)
            try:
                item.result = await work(job, item)
                item.move(State.SUCCEEDED)
            except OmniError as error:
                item.error = str(error)
                item.move(State.FAILED)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # asyncio would hand on what wants to end the process, and end the loop
                error_id = secrets.token_hex(4)
                logger.error("error %s in job %s", error_id, job.id, exc_info=error)
                item.error = f"Internal error {error_id}; details are in the server's log."
                item.move(State.FAILED)

    def _cancel(self, job: Job) -> None:
        if not job.ended:
            job.cancelling = True
            if task := self._tasks.get(job.id):
                task.cancel()

    async def _end(self) -> None:
        for job in list(self._jobs.values()):
            self._cancel(job)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(close() for close in self._at_end), return_exceptions=True)
        asyncio.get_running_loop().stop()

    def _forget_old(self) -> None:
        """Forgets jobs that ended too long ago, and the oldest of too many."""
        ended = [(job, for_s) for job in self._jobs.values() if (for_s := job.ended_for_s) is not None]
        surplus = len(self._jobs) - MAX_KEPT_JOBS
        for number, (job, for_s) in enumerate(ended):
            if number < surplus or for_s > self._ttl_s:
                del self._jobs[job.id]


def _run_to_its_end(loop: asyncio.AbstractEventLoop) -> None:
    while not _stopped(loop):
        continue
    loop.close()


def _stopped(loop: asyncio.AbstractEventLoop) -> bool:
    """Runs the loop; False where something threw it out that wants to end the process, and others still need it."""
    try:
        loop.run_forever()
    except BaseException:
        with contextlib.suppress(BaseException):
            logger.exception("something broke off the loop of the jobs, which goes on")
        return False
    return True
