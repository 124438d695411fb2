"""References to files that this server made: a job's id, with an index where it made several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from omni.errors import InvalidParameters

if TYPE_CHECKING:
    from handlers.services import Services

_REFERENCE = re.compile(r"([a-z]{2,20}_[0-9a-f]{16})(?:#([0-9]{1,4}))?")


def path_of_reference(reference: str, services: Services) -> str:
    """The path of the file that a job made: `JOB_ID`, or `JOB_ID#INDEX` with an index of its results.

    Anything else, such as a path, is returned unchanged.

    Raises: `UnknownJob`; `InvalidParameters` if the job has no such file, or not yet.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        return reference
    job_id, index = found[1], found[2]
    job = services.jobs.find(job_id)
    if index is None and len(job.items) > 1:
        raise InvalidParameters(
            f"The job {job_id} has {len(job.items)} results: add the index of one, {job_id}#0 for the first."
        )
    if int(index or 0) >= len(job.items):
        raise InvalidParameters(f"The job {job_id} has no result {index}: its indexes are 0 to {len(job.items) - 1}.")
    item = job.items[int(index or 0)]
    if not item.ended:
        raise InvalidParameters(f"The job {job_id} has not made this file yet; job_status waits for it.")
    path: str | None = getattr(item.result, "file_path", None)
    if path is None:
        why = item.error or ("It was cancelled." if item.result is None else "Nothing was saved.")
        raise InvalidParameters(f"There is no file of result {item.index} of the job {job_id}. {why}")
    return path
