"""Jobs: generations that continue while other calls are answered.

All jobs run on one event loop with its own thread, so cancelling a job ends its request at once. Other threads start
jobs, read their state, wait for them and cancel them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from http_client.event_loop import EventLoopClosed, EventLoopThread
from omni.errors import JobCancelled, OmniError, TooManyJobs, UnknownJob
from omni.jobs.job import AnyJob, Item, Job, PlanT, ResultT, State
from sandbox.cancellation import Cancellation

T = TypeVar("T")
Work = Callable[[Job[PlanT, ResultT], Item[ResultT]], Awaitable[ResultT]]

MAX_OPEN_JOBS = 32
MAX_KEPT_JOBS = 200
"""These take 80 MB with 20 prompts of 20,000 characters each, the maximum."""

logger = logging.getLogger("omni")


class Slots:
    """Limits how many items of all jobs run on one server at once; each job has its own limit."""

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
    """All jobs of this process, and the thread they run on, which starts with the first job.

    Arguments:
        ttl_s: how many seconds a finished job is kept.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._jobs: dict[str, AnyJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots: dict[str, Slots] = {}
        self._lock = threading.Lock()
        self._loop = EventLoopThread("jobs")
        self._at_end: list[Callable[[], Awaitable[None]]] = []

    def at_end(self, close: Callable[[], Awaitable[None]]) -> None:
        """Registers a coroutine function that runs on the loop after the last job, to close connections."""
        self._at_end.append(close)

    def start(
        self,
        kind: str,
        labels: Sequence[str],
        work: Work[PlanT, ResultT],
        *,
        server: str,
        plan: PlanT,
        limit: int = 1,
        on_end: Callable[[], None] = lambda: None,
    ) -> Job[PlanT, ResultT]:
        """Starts a job and returns at once.

        Arguments:
            kind, labels, plan, on_end: see `Job`.
            work: makes the result of one item; runs on the event loop.
            server: the URL of the server that does the work; all jobs share its slots.
            limit: how many items may run on that server at once.

        Raises: `TooManyJobs`, `JobCancelled` after `close`.
        """
        job: Job[PlanT, ResultT] = Job(kind, labels, plan, on_end)
        with self._lock:
            self._forget_old()
            if sum(not other.ended for other in self._jobs.values()) >= MAX_OPEN_JOBS:
                raise TooManyJobs(
                    f"{MAX_OPEN_JOBS} jobs are already open. Wait for one to end (`list_jobs`), or cancel one "
                    "(`cancel_batch`)."
                )
            self._jobs[job.id] = job
        self._submit(self._run(job, work, server, limit))
        return job

    def find(self, job_id: str) -> AnyJob:
        """The job of that id; raises `UnknownJob`."""
        with self._lock:
            self._forget_old()
            job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    def list(self) -> list[AnyJob]:
        """All jobs that are kept, newest first."""
        with self._lock:
            self._forget_old()
            return list(reversed(self._jobs.values()))

    def cancel(self, job: AnyJob) -> None:
        """Cancels a job: running items stop, waiting items never start, finished items are kept."""
        with contextlib.suppress(JobCancelled):
            self._submit(self._cancel(job))

    def ask(self, coroutine: Coroutine[Any, Any, T], cancellation: Cancellation | None = None) -> T:
        """Runs a short coroutine on the loop and waits for its result.

        Raises: what the coroutine raises; `JobCancelled`.
        """
        cancellation = cancellation or Cancellation()
        future = self._submit(coroutine)
        withdraw = cancellation.on_set(future.cancel)
        try:
            return future.result()
        except CancelledError:
            raise JobCancelled(
                "The call was cancelled." if cancellation.is_set() else "The server is shutting down."
            ) from None
        finally:
            withdraw()

    def close(self) -> None:
        """Cancels all jobs and ends the thread."""
        self._loop.close(self._end)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            return self._loop.submit(coroutine)
        except EventLoopClosed:
            raise JobCancelled("The server is shutting down.") from None

    def slot(self, server: str, limit: int) -> AbstractAsyncContextManager[None]:
        """A slot of a server, for work on the event loop that sends several requests for one item.

        Arguments: `server`, `limit`: see `start`.
        """
        return self._slots.setdefault(server, Slots()).taken(limit)

    async def _run(self, job: Job[PlanT, ResultT], work: Work[PlanT, ResultT], server: str, limit: int) -> None:
        async def run_one(item: Item[ResultT]) -> None:
            async with self.slot(server, limit):
                await self._run_item(job, item, work)

        task = asyncio.current_task()
        assert task is not None
        self._tasks[job.id] = task
        try:
            if not job.cancelling:
                # Without return_exceptions, the first cancelled item would end the wait for one that is being finished.
                await asyncio.gather(*map(run_one, job.items), return_exceptions=True)
        except asyncio.CancelledError:
            logger.debug("job %s was cancelled", job.id)
        finally:
            del self._tasks[job.id]
            for item in job.items:
                if not item.ended:
                    item.move(State.CANCELLED)
            job.finish()

    async def _run_item(self, job: Job[PlanT, ResultT], item: Item[ResultT], work: Work[PlanT, ResultT]) -> None:
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
        except BaseException as error:  # asyncio would raise SystemExit and the like out of the loop
            error_id = secrets.token_hex(4)
            logger.error("error %s in job %s", error_id, job.id, exc_info=error)
            item.error = f"Internal error {error_id}; details are in the server's log."
            item.move(State.FAILED)

    async def _cancel(self, job: AnyJob) -> None:
        if not job.ended:
            job.cancelling = True
            if task := self._tasks.get(job.id):
                task.cancel()

    async def _end(self) -> None:
        for job in list(self._jobs.values()):
            await self._cancel(job)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(close() for close in self._at_end), return_exceptions=True)

    def _forget_old(self) -> None:
        """Removes jobs that ended more than `ttl_s` ago, and the oldest ones beyond `MAX_KEPT_JOBS`."""
        ended = [(job, for_s) for job in self._jobs.values() if (for_s := job.ended_for_s) is not None]
        surplus = len(self._jobs) - MAX_KEPT_JOBS
        for number, (job, for_s) in enumerate(ended):
            if number < surplus or for_s > self._ttl_s:
                del self._jobs[job.id]


async def run_in_thread(function: Callable[[], T]) -> T:
    """Runs a blocking function; raises what it raises, or `RuntimeError` for what asyncio cannot pass on."""
    pool = ThreadPoolExecutor(1, "job work")
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, _with_safe_errors, function)
    finally:
        pool.shutdown(wait=False)


async def run_until_cancelled(function: Callable[[Cancellation], T]) -> T:
    """Like `run_in_thread`; cancelling sets the cancellation that the function is given, and waits until it ends."""
    cancellation = Cancellation()
    working = asyncio.ensure_future(run_in_thread(lambda: function(cancellation)))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        cancellation.set()
        with contextlib.suppress(Exception):
            await working
        raise


async def run_shielded(function: Callable[[], T]) -> T:
    """Like `run_in_thread`, but cancelling neither stops the function nor loses its result."""
    working = asyncio.ensure_future(run_in_thread(function))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        return await working


def _with_safe_errors(function: Callable[[], T]) -> T:
    """Replaces `StopIteration`, which a future rejects, and `SystemExit` and the like, which end the event loop."""
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError("StopIteration") from error
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(type(error).__name__) from error
