"""The videos API of a vLLM-Omni server: a job there is made, looked at, fetched and deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from http_client.loose_json import decoded
from omni.attempts import attempted
from omni.client import ASK_TIMEOUT_S, MAX_ASK_BYTES, OmniClient
from omni.errors import OmniError, ServerBusy, UnusableAnswer
from omni.failures import failure

SUBMIT_TIMEOUT_S = 120.0
"""For sending a picture and two minutes of sound over a slow line; the answer comes as soon as they are there."""
DOWNLOAD_TIMEOUT_S = 600.0
MAX_VIDEO_BYTES = 500_000_000
GONE = "gone"
COMPLETED = "completed"
FAILED = "failed"
_STATES = {
    **dict.fromkeys(("completed", "complete", "succeeded", "success", "done", "finished"), COMPLETED),
    **dict.fromkeys(("failed", "failure", "error", "cancelled", "canceled", "expired", "rejected"), FAILED),
}
"""Words for a job's end: vLLM-Omni's and OpenAI's own, and those of others with this API."""
_GATEWAYS = (408, 425, 429, 502, 503, 504, 529)
"""What somebody between here and the server says, or a server that is busy: the job goes on."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class VideoJob(msgspec.Struct, frozen=True):
    """A job on the server, as it tells of it; `status` is `COMPLETED`, `FAILED` or any other word while it goes on, and
    `GONE` where the server knows of none. Its progress there is 0 until it is 100, so it is not among these."""

    status: str
    error: Any = None
    inference_time_s: float | None = None


class VideoClient(OmniClient):
    """One server that makes videos. Beside the base's errors, every method raises `OmniError`s only."""

    url_setting = "OMNI_VIDEO_URL or OMNI_VIDEO_MODELS"
    health_tool = "list_available_models"

    async def submit(self, fields: Mapping[str, str], picture: bytes) -> str:
        """Starts a job and returns its id there; `picture` is a PNG file."""
        files = {"input_reference": ("picture.png", picture, "image/png")}
        form = dict(fields)
        data = await attempted(
            lambda: self._answer("POST", "/v1/videos", SUBMIT_TIMEOUT_S, MAX_ASK_BYTES, data=form, files=files)
        )
        job = self._decoded(data, dict)
        video_id = str(job.get("id") or "")
        if not video_id and job.get("error"):
            raise failure(200, job, key=self._key)
        if not _ID.fullmatch(video_id):  # it becomes part of paths
            raise UnusableAnswer("The vLLM server gave its job an id that cannot be one.")
        return video_id

    async def job(self, video_id: str) -> VideoJob:
        """How far a job is. One that failed is told of with the status of an error, which is not raised.

        Raises: `ServerBusy` where the job may still go on, beside the others.
        """
        status, data, headers = await self._exchange("GET", f"/v1/videos/{video_id}", ASK_TIMEOUT_S, MAX_ASK_BYTES)
        if 200 <= status < 300:
            return _read_job(self._decoded(data, dict))
        if status == 404:
            return VideoJob(GONE)
        found, _ = decoded(data)
        job = _read_job(found) if isinstance(found, dict) else VideoJob("")
        if job.status == FAILED:
            return job
        error = failure(status, data, headers, self._key)
        raise ServerBusy(str(error)) if status in _GATEWAYS else error

    async def content(self, video_id: str) -> bytes:
        """The file of a job that is completed, fetched again where that breaks: it took long enough to make."""
        path = f"/v1/videos/{video_id}/content"
        return await attempted(lambda: self._ask(path, MAX_VIDEO_BYTES, DOWNLOAD_TIMEOUT_S))

    async def delete(self, video_id: str) -> None:
        """Ends a job and forgets its file; what the server says to that is of no use to anybody."""
        try:
            await self._exchange("DELETE", f"/v1/videos/{video_id}", ASK_TIMEOUT_S, MAX_ASK_BYTES)
        except OmniError:
            return


def failure_of(job: VideoJob) -> OmniError:
    """Why a job failed, from what the server tells of it."""
    code = job.error.get("code") if isinstance(job.error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return failure(status, {"error": job.error})


def _read_job(fields: dict[str, Any]) -> VideoJob:
    status, seconds = fields.get("status"), fields.get("inference_time_s")
    known = _STATES.get(status.strip().lower(), status) if isinstance(status, str) else ""
    is_time = isinstance(seconds, int | float) and seconds > 0
    return VideoJob(known, fields.get("error"), float(seconds) if is_time and seconds is not None else None)
