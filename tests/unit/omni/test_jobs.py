from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from omni.errors import JobCancelled, ServerRefused, TooManyJobs, UnknownJob
from omni.jobs import job as job_module
from omni.jobs.job import TRANSITIONS, AnyJob, Item, State
from omni.jobs.jobs import MAX_KEPT_JOBS, MAX_OPEN_JOBS, Jobs, run_in_thread
from sandbox.cancellation import Cancellation

WAIT_S = 10.0
Work = Callable[[AnyJob, Item[Any]], Awaitable[Any]]


class Gate:
    """Work that goes on until the gate opens, and what became of it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun = threading.Semaphore(0)
        self.broken_off: list[int] = []
        self.n_running = 0
        self.max_running = 0

    async def work(self, job: AnyJob, item: Item[Any]) -> str:
        self.n_running += 1
        self.max_running = max(self.max_running, self.n_running)
        self.begun.release()
        try:
            while not self.opened.is_set():
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.broken_off.append(item.index)
            raise
        finally:
            self.n_running -= 1
        return item.label

    def wait_begun(self, n_items: int = 1) -> None:
        for _ in range(n_items):
            assert self.begun.acquire(timeout=WAIT_S)


def start(jobs: Jobs, work: Work, labels: str = "a", limit: int = 4, server: str = "http://s") -> AnyJob:
    return jobs.start("batch", list(labels), work, server=server, limit=limit, plan=None)


def test_items_succeed_each_with_its_result(jobs: Jobs) -> None:
    async def work(job: AnyJob, item: Item[Any]) -> str:
        return item.label * 2

    job = start(jobs, work, "abc")
    assert job.wait(WAIT_S)
    assert [item.result for item in job.items] == ["aa", "bb", "cc"]
    assert (job.state, job.n_ended) == (State.SUCCEEDED, 3)
    assert job.finished_s is not None
    assert jobs.find(job.id) is job


def test_one_that_fails_fails_alone(jobs: Jobs) -> None:
    async def work(job: AnyJob, item: Item[Any]) -> str:
        if item.label == "b":
            raise ServerRefused("no b")
        if item.label == "c":
            raise ValueError("secret")
        return item.label

    job = start(jobs, work, "abc")
    assert job.wait(WAIT_S)
    assert [item.result for item in job.items] == ["a", None, None]
    assert job.items[1].error == "no b"
    assert job.items[2].error is not None
    assert job.items[2].error.startswith("Internal error ")
    assert "secret" not in job.items[2].error
    assert job.state is State.SUCCEEDED


def test_job_fails_when_every_item_does(jobs: Jobs) -> None:
    async def work(job: AnyJob, item: Item[Any]) -> None:
        raise ServerRefused("no")

    job = start(jobs, work, "ab")
    assert job.wait(WAIT_S)
    assert job.state is State.FAILED


def test_no_more_run_at_once_than_the_limit(jobs: Jobs) -> None:
    gate = Gate()
    job = start(jobs, gate.work, "abcdef", limit=2)
    gate.wait_begun(2)
    assert (job.count(State.RUNNING), job.count(State.QUEUED)) == (2, 4)
    gate.opened.set()
    assert job.wait(WAIT_S)
    assert gate.max_running == 2


def test_two_jobs_share_the_limit_of_a_server_but_not_of_another(jobs: Jobs) -> None:
    gate, other = Gate(), Gate()
    first = start(jobs, gate.work, "abc", limit=2)
    second = start(jobs, gate.work, "abc", limit=2)
    third = start(jobs, other.work, "a", limit=1, server="http://t")
    gate.wait_begun(2)
    other.wait_begun()
    assert gate.n_running == 2
    gate.opened.set()
    other.opened.set()
    assert all(job.wait(WAIT_S) for job in (first, second, third))
    assert gate.max_running == 2


def test_cancelling_breaks_off_what_runs_and_keeps_what_is_done(jobs: Jobs) -> None:
    gate = Gate()

    async def work(job: AnyJob, item: Item[Any]) -> str:
        return "done" if item.index == 0 else await gate.work(job, item)

    job = start(jobs, work, "abcd", limit=2)
    gate.wait_begun(2)
    jobs.cancel(job)
    assert job.wait(WAIT_S)
    assert job.state is State.CANCELLED
    assert [item.state for item in job.items] == [State.SUCCEEDED] + 3 * [State.CANCELLED]
    assert sorted(gate.broken_off) == [1, 2]


def test_item_that_is_being_finished_when_its_job_is_cancelled_is_kept(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()

    async def work(job: AnyJob, item: Item[Any]) -> str:
        try:
            begun.set()
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            if item.index == 0:
                raise
            await asyncio.sleep(0.05)
        return item.label

    job = start(jobs, work, "ab")
    assert begun.wait(WAIT_S)
    time.sleep(0.05)
    jobs.cancel(job)
    assert job.wait(WAIT_S)
    assert [item.state for item in job.items] == [State.CANCELLED, State.SUCCEEDED]
    assert job.state is State.CANCELLED
    assert "Traceback" not in caplog.text


def test_cancelled_before_it_began(jobs: Jobs) -> None:
    gate = Gate()
    busy = start(jobs, gate.work, limit=1)
    gate.wait_begun()
    waiting = start(jobs, gate.work, limit=1)
    jobs.cancel(waiting)
    assert waiting.wait(WAIT_S)
    assert (waiting.state, waiting.items[0].state) == (State.CANCELLED, State.CANCELLED)
    gate.opened.set()
    assert busy.wait(WAIT_S)
    assert busy.state is State.SUCCEEDED


def test_cancelled_after_it_ended_stays_as_it_is(jobs: Jobs) -> None:
    async def work(job: AnyJob, item: Item[Any]) -> str:
        return "done"

    job = start(jobs, work)
    assert job.wait(WAIT_S)
    jobs.cancel(job)
    jobs.ask(asyncio.sleep(0))
    assert job.state is State.SUCCEEDED


def test_after_all_are_cancelled_a_new_job_works(jobs: Jobs) -> None:
    gate = Gate()
    old = [start(jobs, gate.work, "abc", limit=1) for _ in range(3)]
    gate.wait_begun()
    for job in old:
        jobs.cancel(job)
    assert all(job.wait(WAIT_S) for job in old)
    gate.opened.set()
    new = start(jobs, gate.work, limit=1)
    assert new.wait(WAIT_S)
    assert new.state is State.SUCCEEDED


def test_open_jobs_are_bounded(jobs: Jobs) -> None:
    gate = Gate()
    for _ in range(MAX_OPEN_JOBS):
        start(jobs, gate.work)
    with pytest.raises(TooManyJobs, match="list_jobs"):
        start(jobs, gate.work)


@pytest.mark.parametrize("job_id", ["", "batch_0", "../../etc/passwd", "x" * 10_000, "\0"])
def test_unknown_ids_are_refused(jobs: Jobs, job_id: str) -> None:
    with pytest.raises(UnknownJob) as caught:
        jobs.find(job_id)
    assert len(str(caught.value)) < 500


def test_ids_cannot_be_guessed(jobs: Jobs) -> None:
    async def work(job: AnyJob, item: Item[Any]) -> None:
        return None

    ids = {start(jobs, work).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(job_id) == len("batch_") + 16 for job_id in ids)


def test_ended_jobs_are_forgotten_after_their_time(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(job: AnyJob, item: Item[Any]) -> None:
        return None

    old, new = start(jobs, work), start(jobs, work)
    assert old.wait(WAIT_S)
    assert new.wait(WAIT_S)
    old._ended_s = time.monotonic() - 3601
    assert jobs.list() == [new]
    with pytest.raises(UnknownJob):
        jobs.find(old.id)


def test_no_more_jobs_are_kept_than_fit(jobs: Jobs) -> None:
    for number in range(MAX_KEPT_JOBS + 5):
        job = AnyJob("batch", ["a"], None)
        job.items[0].move(State.CANCELLED)
        job.cancelling = True
        job.finish()
        jobs._jobs[str(number)] = job
        job.id = str(number)
    assert len(jobs.list()) == MAX_KEPT_JOBS
    assert jobs.list()[-1].id == "5"


def test_question_is_broken_off_when_the_caller_cancels(jobs: Jobs) -> None:
    cancellation = Cancellation()
    threading.Timer(0.05, cancellation.set).start()
    with pytest.raises(JobCancelled, match="The call was cancelled"):
        jobs.ask(asyncio.sleep(60), cancellation)
    with pytest.raises(JobCancelled):
        jobs.ask(asyncio.sleep(60), cancellation)


def test_closing_ends_a_question_that_waits(jobs: Jobs) -> None:
    threading.Timer(0.05, jobs.close).start()
    with pytest.raises(JobCancelled, match="shutting down"):
        jobs.ask(asyncio.sleep(60))


def test_question_passes_on_what_it_raises(jobs: Jobs) -> None:
    async def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        jobs.ask(fail())


def test_closing_breaks_everything_off_at_once(jobs: Jobs) -> None:
    gate = Gate()
    job = start(jobs, gate.work, "ab")
    gate.wait_begun(2)
    jobs.close()
    assert job.wait(0)
    assert job.state is State.CANCELLED
    with pytest.raises(JobCancelled):
        start(jobs, gate.work)


def test_states_have_a_table() -> None:
    assert set(TRANSITIONS) == set(State)
    item = Item[Any](0, "a")
    with pytest.raises(RuntimeError, match="from queued to succeeded"):
        item.move(State.SUCCEEDED)
    assert job_module.__doc__


class PanicException(BaseException):
    """What the bindings of Rust raise when that panics."""


BEYOND_EXCEPTION = [PanicException, SystemExit, KeyboardInterrupt, GeneratorExit]


@pytest.mark.parametrize("kind", [*BEYOND_EXCEPTION, StopIteration])
@pytest.mark.parametrize("is_aside", [False, True])
def test_whatever_an_item_raises_it_has_failed_and_all_others_go_on(
    kind: type[BaseException], is_aside: bool, jobs: Jobs
) -> None:
    def throw() -> None:
        raise kind("/a/path")

    async def work(job: AnyJob, item: Item[Any]) -> str:
        if item.index == 1:
            if is_aside:
                await run_in_thread(throw)
            throw()
        return item.label

    job = start(jobs, work, "abc")
    assert job.wait(WAIT_S)
    assert [item.state for item in job.items] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    assert str(job.items[1].error).startswith("Internal error ")
    assert "/a/path" not in str(job.items[1].error)
    assert job.state is State.SUCCEEDED
    again = start(jobs, lambda job, item: asyncio.sleep(0, "done"), "z")
    assert again.wait(WAIT_S)
    assert again.items[0].result == "done"


@pytest.mark.parametrize("kind", BEYOND_EXCEPTION)
def test_whatever_a_short_question_raises_reaches_whoever_asked_and_the_loop_goes_on(
    kind: type[BaseException], jobs: Jobs
) -> None:
    async def throw() -> None:
        raise kind

    async def nested() -> None:
        await asyncio.gather(throw(), asyncio.sleep(WAIT_S))

    for question in (throw, nested):
        with pytest.raises(kind):
            jobs.ask(question())
        assert jobs.ask(asyncio.sleep(0, "still here")) == "still here"


def test_work_that_takes_slots_itself_shares_the_limit(jobs: Jobs) -> None:
    gate = Gate()

    async def work(job: AnyJob, item: Item[Any]) -> str:
        async with jobs.slot("http://s", 2):
            return await gate.work(job, item)

    own = start(jobs, work, "abc", limit=32, server="own")
    other = start(jobs, gate.work, "abc", limit=2)
    gate.wait_begun(2)
    gate.opened.set()
    assert own.wait(WAIT_S)
    assert other.wait(WAIT_S)
    assert gate.max_running == 2
