"""Jobs that use the models of this process: each works in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from omni.jobs.jobs import run_until_cancelled

if TYPE_CHECKING:
    from handlers.services import Services
    from omni.jobs.job import Item, Job
    from sandbox.cancellation import Cancellation

THIS_SERVER = "this server"
"""Whose slots work with the models of this process takes."""


class Plan(Protocol):
    """What such a job is made of."""

    def close(self) -> None:
        """Drops its media and releases their bytes in the budget; called at the end of the job, or if none starts."""


PlanT = TypeVar("PlanT", bound=Plan)
ResultT = TypeVar("ResultT")


def start_here(
    kind: str,
    label: str,
    plan: PlanT,
    function: Callable[[Job[PlanT, ResultT], Cancellation], ResultT],
    services: Services,
) -> Job[PlanT, ResultT]:
    """Starts a job with one item; at most as many of these jobs run at a time as calls do.

    Arguments:
        kind, label, plan: see `Job`.
        function: does the work, in a thread, until the cancellation is set.
        services: have the jobs.

    Raises: `TooManyJobs`, `JobCancelled`.
    """

    async def work(job: Job[PlanT, ResultT], item: Item[ResultT]) -> ResultT:
        def run(cancellation: Cancellation) -> ResultT:
            threading.current_thread().name = job.id
            return function(job, cancellation)

        return await run_until_cancelled(run)

    try:
        limit = services.settings.server.max_concurrent
        return services.jobs.start(kind, [label], work, server=THIS_SERVER, plan=plan, limit=limit, on_end=plan.close)
    except BaseException:
        plan.close()
        raise
