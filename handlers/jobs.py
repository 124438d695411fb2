"""Jobs: waiting for one, telling how far it is, listing and cancelling them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from handlers.job_reports import REPORTS, cancelled, running
from omni.errors import JobCancelled
from omni.job import State

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call
    from mcp_protocol.jsonrpc import Json
    from omni.job import Job

LOOK_S = 0.02
ANSWER_S = 0.3
"""What is left until a call's deadline for putting the answer together."""
CANCEL_S = 5.0
"""How long cancelling waits for requests to be broken off; they are within a moment."""
SIGN_OF_LIFE_S = 1.0

PreviewKind = Annotated[
    Literal["small", "none", "full"],
    Meta(description="The picture in the answer: reduced, not at all, or at its own size where a result can hold it."),
]
Wait = Annotated[
    float,
    Meta(
        ge=0,
        le=86_400,
        description="Answer with status 'running' and an id for job_status after this many seconds; left out: wait "
        "until it is done.",
    ),
]
JobId = Annotated[str, Meta(min_length=1, max_length=200)]


class JobStatusArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `job_status`."""

    job_id: Annotated[JobId, Meta(description="A job_id or batch_id.")]
    preview: PreviewKind = "small"
    wait_s: Annotated[float, Meta(ge=0, le=86_400, description="Wait so long for its end.")] = 0.0


class CancelArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `cancel_batch`."""

    batch_id: Annotated[JobId, Meta(description="A batch_id or job_id.")]


class ListJobsArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `list_jobs`."""

    status: (
        Annotated[
            Literal["queued", "running", "succeeded", "failed", "cancelled"],
            Meta(description="Only jobs in this state; left out: all of them."),
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=200, description="The newest so many.")] = 50


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
    """Result of `list_jobs`, the newest first; `total_count` counts those left out by `limit` too."""

    jobs: list[ListedJob]
    total_count: int


class BatchCancelled(msgspec.Struct, frozen=True):
    """Result of `cancel_batch`: what was done before stays."""

    batch_id: str
    status: str
    completed: int
    cancelled: int
    failed: int
    files_saved: list[str]
    message: str


def job_status(arguments: JobStatusArguments, call: Call, services: Services) -> list[Json]:
    """How far a job is, or what came of it."""
    job = services.jobs.find(arguments.job_id)
    wait_for(job, call, services, arguments.wait_s, owns=False)
    return report(job, call, services, arguments.preview)


def list_jobs(arguments: ListJobsArguments, call: Call, services: Services) -> JobList:
    """The jobs that run, and those that ended lately."""
    jobs = [job for job in services.jobs.list() if arguments.status in (None, job.state)]
    return JobList([_listed(job) for job in jobs[: arguments.limit]], len(jobs))


def cancel_batch(arguments: CancelArguments, call: Call, services: Services) -> BatchCancelled:
    """Stops a job; pictures that are done stay."""
    job = services.jobs.find(arguments.batch_id)
    was_over = job.ended
    if not was_over:
        services.jobs.cancel(job)
        job.wait(CANCEL_S)
    return BatchCancelled(job.id, *cancelled(job, was_over))


def wait_for(job: Job, call: Call, services: Services, wait_s: float | None, *, owns: bool = True) -> None:
    """Waits for a job's end, telling the caller how far it is.

    It returns before the end when `wait_s` seconds have passed, the call's deadline comes, or a call about jobs waits
    behind this one. A caller who cancels the call that started a job (`owns`) cancels the job.

    Raises: `JobCancelled` when the call was cancelled.
    """
    until_s = None if wait_s is None else time.monotonic() + wait_s
    if call.deadline_s is not None:
        latest_s = call.deadline_s - ANSWER_S
        until_s = latest_s if until_s is None else min(until_s, latest_s)
    tell = _teller(job, call)
    tell()
    while not job.wait(LOOK_S if until_s is None else min(LOOK_S, max(0.0, until_s - time.monotonic()))):
        if call.cancelled():
            if owns:
                services.jobs.cancel(job)
            raise JobCancelled("The call was cancelled.")
        tell()
        if call.hurried() or (until_s is not None and time.monotonic() >= until_s):
            return
    tell()


def report(job: Job, call: Call, services: Services, preview: PreviewKind) -> list[Json]:
    """A job as a tool's answer: how far it is, or what came of it.

    Raises: `JobFailed` where nothing came of it.
    """
    if not job.ended:
        return running(job)
    return REPORTS[job.kind](job, call, services, preview)


def _teller(job: Job, call: Call) -> Callable[[], None]:
    """Tells the caller of each item that ended and, where there is only one, of each phase, and every second that it
    goes on."""
    total = len(job.items)
    told = -1
    told_phase = ""
    next_s = 0.0

    def tell() -> None:
        nonlocal told, told_phase, next_s
        if not call.wants_progress:
            return
        now_s = time.monotonic()
        if total > 1 and job.n_ended != told:
            told = job.n_ended
            call.progress(max(told, 0.001), total, f"{job.id}: {told} of {total} done")
            return
        doing = job.phase or job.state
        phase = doing.partition(" (")[0]  # behind it are estimates, which change all the time
        if total == 1 and not job.ended and (now_s >= next_s or phase != told_phase):
            told_phase, next_s = phase, now_s + SIGN_OF_LIFE_S
            seconds = job.elapsed_s
            call.progress(max(seconds, 0.001), None, f"{job.id}: {doing}, {seconds:.0f} s so far")

    return tell


def _listed(job: Job) -> ListedJob:
    first = job.items[0].label
    return ListedJob(
        job_id=job.id,
        kind=job.kind,
        status=job.state,
        about=first if len(first) <= 100 else first[:99] + "…",
        completed=job.count(State.SUCCEEDED),
        failed=job.count(State.FAILED),
        total=len(job.items),
        created=_utc(job.created_s),
        finished=None if job.finished_s is None else _utc(job.finished_s),
        elapsed_seconds=round(job.elapsed_s, 3),
    )


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
