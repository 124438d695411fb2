"""Jobs: waiting for them, reporting their progress, listing and cancelling them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from handlers.media_generation.job_reports import REPORTS, cancelled, running
from handlers.progress import MIN_STEP
from mcp_protocol.calls.deferred import Deferred
from omni.errors import JobCancelled
from omni.jobs.job import State

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json
    from omni.jobs.job import AnyJob
    from omni.jobs.jobs import Jobs

ResultT = TypeVar("ResultT")

POLL_S = 0.02
"""`Call.should_yield` and the progress of a job have no event to wait for."""
REPORT_S = 0.3
"""Time before a call's deadline that is reserved for building the result."""
STEP_S = 3.0
"""How long a step of the engine may take on a busy machine: no deadline interrupts it."""
CANCEL_S = 5.0
"""Maximum wait for the server to abort the requests of a cancelled job."""
PROGRESS_S = 1.0
"""Interval of progress notifications while the phase does not change."""

PreviewKind = Annotated[
    Literal["small", "none", "full"],
    Meta(description="The image in the result: reduced, none, or in full size if it fits."),
]
Wait = Annotated[
    float,
    Meta(
        ge=0,
        le=86_400,
        description="Seconds after which status 'running' is returned; default: wait for the end.",
    ),
]
JobId = Annotated[str, Meta(min_length=1, max_length=200)]


class JobStatusArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `job_status`."""

    job_id: Annotated[JobId, Meta(description="A job_id or batch_id.")]
    preview: PreviewKind = "small"
    wait_s: Annotated[float, Meta(ge=0, le=86_400, description="Wait up to this many seconds for the end.")] = 0.0


class CancelArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `cancel_batch`."""

    batch_id: Annotated[JobId, Meta(description="A batch_id or job_id.")]


class ListJobsArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `list_jobs`."""

    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
        Meta(description="Only jobs in this state; default: all."),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=200, description="Maximum number of jobs to return.")] = 50


class ListedJob(msgspec.Struct, frozen=True):
    """One job in `list_jobs`; times are UTC."""

    job_id: str
    kind: str
    status: str
    about: str
    completed: int
    failed: int
    total: int
    created: str
    finished: str | None
    elapsed_seconds: float


class JobList(msgspec.Struct, frozen=True):
    """Result of `list_jobs`, newest first; `total_count` includes jobs beyond `limit`."""

    jobs: list[ListedJob]
    total_count: int


class BatchCancelled(msgspec.Struct, frozen=True):
    """Result of `cancel_batch`; files saved before are kept."""

    batch_id: str
    status: str
    completed: int
    cancelled: int
    failed: int
    files_saved: list[str]
    message: str


def job_status(arguments: JobStatusArguments, call: Call, services: Services) -> list[Json]:
    """The progress of a job, or its result."""
    job = services.jobs.find(arguments.job_id)
    wait_for(job, call, services, arguments.wait_s, owns=False)
    return report(job, call, services, arguments.preview)


def list_jobs(arguments: ListJobsArguments, call: Call, services: Services) -> JobList:
    """The running and the recently finished jobs."""
    jobs = [job for job in services.jobs.list() if arguments.status in (None, job.state)]
    return JobList([_entry(job) for job in jobs[: arguments.limit]], len(jobs))


def cancel_batch(arguments: CancelArguments, call: Call, services: Services) -> BatchCancelled:
    """Cancels a job; finished images are kept."""
    job = services.jobs.find(arguments.batch_id)
    had_ended = job.ended
    if not had_ended:
        services.jobs.cancel(job)
        job.wait(CANCEL_S)
    return BatchCancelled(job.id, *cancelled(job, had_ended))


def outcome(
    job: AnyJob, call: Call, services: Services, wait_s: float | None, report: Callable[[], ResultT]
) -> ResultT:
    """The report of a job that the call has started: once it has ended, or after a wait as in `wait_for`.

    Raises: `Deferred` for the call of a task, which is reported at the end of the job; the errors of `wait_for`.
    """
    if call.task is not None:
        raise Deferred(_JobWork(job, services.jobs, report))
    wait_for(job, call, services, wait_s)
    return report()


class _JobWork:
    """A job as the work of a task; see `DeferredWork`."""

    def __init__(self, job: AnyJob, jobs: Jobs, report: Callable[[], Any]) -> None:
        self._job = job
        self._jobs = jobs
        self.report = report
        self.on_end = job.when_ended

    def status(self) -> str:
        job = self._job
        n_items = f", {job.n_ended} of {len(job.items)} done" if len(job.items) > 1 else ""
        return f"{job.id}: {job.state if job.ended else job.phase or job.state}{n_items}"

    def was_cancelled(self) -> bool:
        return self._job.state is State.CANCELLED

    def cancel(self) -> None:
        self._jobs.cancel(self._job)


def wait_for(job: AnyJob, call: Call, services: Services, wait_s: float | None, *, owns: bool = True) -> None:
    """Waits for a job's end and sends progress notifications.

    Returns before the end after `wait_s` seconds, shortly before the call's deadline, or if a call about jobs is queued
    behind this one.

    Arguments:
        job: the job.
        call: the call that waits.
        services: have the jobs.
        wait_s: maximum wait in seconds, `None` for no limit.
        owns: whether the call started the job; if so, cancelling the call cancels the job.

    Raises: `JobCancelled` if the call was cancelled.
    """
    until_s = None if wait_s is None else time.monotonic() + wait_s
    if call.deadline_s is not None:
        latest_s = call.deadline_s - REPORT_S
        until_s = latest_s if until_s is None else min(until_s, latest_s)
    send_progress = _progress_sender(job, call)
    send_progress()
    while not job.wait(POLL_S if until_s is None else min(POLL_S, max(0.0, until_s - time.monotonic()))):
        if call.cancellation.is_set():
            if owns:
                services.jobs.cancel(job)
            raise JobCancelled("The call was cancelled.")
        send_progress()
        if call.should_yield() or (until_s is not None and time.monotonic() >= until_s):
            return
    send_progress()


def work_deadline_s(timeout_s: float | None, call: Call) -> float | None:
    """When a job ends with what there is: a moment before the deadline that its caller has set by `timeout_s`.

    `None` without one: then the call may be answered earlier, and the job goes on.
    """
    if timeout_s is None or call.deadline_s is None:
        return None
    now_s = time.monotonic()
    return max(call.deadline_s - REPORT_S - STEP_S, now_s + (call.deadline_s - now_s) / 2)


def report(job: AnyJob, call: Call, services: Services, preview: PreviewKind) -> list[Json]:
    """The content of a tool result about a job: its progress, or its result.

    Raises: `JobFailed` if the job failed.
    """
    if not job.ended:
        return running(job)
    if job.kind in REPORTS:
        return REPORTS[job.kind](job, call, services, preview)
    content: list[Json] = job.plan.report(job)  # of other tools
    return content


def _progress_sender(job: AnyJob, call: Call) -> Callable[[], None]:
    """Returns a function that sends a notification for each finished item. A job with one item has no such steps: it
    reports each phase and its own progress, else every second that it is still running."""
    total = len(job.items)
    sent_n_ended = -1
    sent_phase = ""
    next_s = 0.0
    sent: tuple[float, float] | None = None
    value = 0.0

    def send() -> None:
        nonlocal sent_n_ended, sent_phase, next_s, sent, value
        if not call.wants_progress:
            return
        now_s = time.monotonic()
        if total > 1 and job.n_ended != sent_n_ended:
            sent_n_ended = job.n_ended
            call.progress(max(sent_n_ended, 0.001), total, f"{job.id}: {sent_n_ended} of {total} done")
            return
        activity = job.phase or job.state
        phase = activity.partition(" (")[0]  # the estimates in parentheses change all the time
        if job.progress is not None:
            if job.progress != sent or (phase != sent_phase and not job.ended):
                sent, sent_phase = job.progress, phase
                value = max(job.progress[0], value + MIN_STEP)
                call.progress(value, job.progress[1], f"{job.id}: {activity}")
            return
        if total == 1 and not job.ended and (now_s >= next_s or phase != sent_phase):
            sent_phase, next_s = phase, now_s + PROGRESS_S
            seconds = job.elapsed_s
            call.progress(max(seconds, 0.001), None, f"{job.id}: {activity}, {seconds:.0f} s so far")

    return send


def _entry(job: AnyJob) -> ListedJob:
    first = job.items[0].label
    return ListedJob(
        job_id=job.id,
        kind=job.kind,
        status=job.state,
        about=first if len(first) <= 100 else first[:99] + "…",
        completed=job.count(State.SUCCEEDED),
        failed=job.count(State.FAILED),
        total=len(job.items),
        created=utc(job.created_s),
        finished=None if job.finished_s is None else utc(job.finished_s),
        elapsed_seconds=round(job.elapsed_s, 3),
    )


def utc(seconds: float) -> str:
    """A time in seconds since 1970, in UTC by ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
