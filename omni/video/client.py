"""The videos API of a vLLM-Omni server: creates, polls, downloads and deletes jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from http_client.loose_json import decoded
from http_client.outgoing import Outgoing
from omni.client import ASK_TIMEOUT_S, MAX_ASK_BYTES, OmniClient, attempted
from omni.errors import InvalidResponse, OmniError, ServerBusy
from omni.failures import failure
from omni.turns import Turns

SUBMIT_TIMEOUT_S = 120.0
"""For the upload of an image and two minutes of audio over a slow line."""
DOWNLOAD_TIMEOUT_S = 600.0
MAX_VIDEO_BYTES = 500_000_000
GONE = "gone"
COMPLETED = "completed"
FAILED = "failed"
_STATES = {
    **dict.fromkeys(("completed", "complete", "succeeded", "success", "done", "finished"), COMPLETED),
    **dict.fromkeys(("failed", "failure", "error", "cancelled", "canceled", "expired", "rejected"), FAILED),
}
"""Final states of a job at vLLM-Omni, OpenAI, and other servers with this API."""
_GATEWAYS = (408, 425, 429, 502, 503, 504, 529)
"""Statuses of a gateway or of a busy server: the job continues."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class VideoJob(msgspec.Struct, frozen=True):
    """The state of a job on the server.

    Attributes:
        status: `COMPLETED`, `FAILED`, `GONE` where the server has no such job, or another word while it runs.
        error: why it failed, in any format.
        inference_time_s: what the server reports.
    """

    status: str
    error: Any = None
    inference_time_s: float | None = None


class VideoClient(OmniClient):
    """One server that makes videos; see `OmniClient`.

    The generation of a job begins with `submit`; it ends with `content` or `delete`.
    """

    url_setting = "OMNI_VIDEO_URL or OMNI_VIDEO_MODELS"
    health_tool = "list_available_models"

    def __init__(
        self,
        url: str,
        timeout_s: float,
        api_key: str | None = None,
        outgoing: Outgoing | None = None,
        turns: Turns | None = None,
    ) -> None:
        super().__init__(url, timeout_s, api_key, outgoing, turns)
        self._running: set[str] = set()

    async def submit(self, fields: Mapping[str, str], image: bytes | None) -> str:
        """Creates a job, with a PNG file if the video begins with an image, and returns its id."""
        await self.turns.begin(self.url)
        video_id = None
        try:
            video_id = await self._submitted(fields, image)
            self._running.add(video_id)
        finally:
            if video_id is None:
                self.turns.end(self.url)
        return video_id

    async def _submitted(self, fields: Mapping[str, str], image: bytes | None) -> str:
        form: dict[str, Any] = {name: (None, value) for name, value in fields.items()}  # parts without a file's name
        if image is not None:
            form["input_reference"] = ("image.png", image, "image/png")
        data = await attempted(lambda: self._answer("POST", "/v1/videos", SUBMIT_TIMEOUT_S, MAX_ASK_BYTES, files=form))
        job = self._decoded(data, dict)
        video_id = str(job.get("id") or "")
        if not video_id and job.get("error"):
            raise failure(200, job, key=self._key)
        if not _ID.fullmatch(video_id):  # the id becomes part of paths
            raise InvalidResponse("The vLLM server responded with an invalid job id.")
        return video_id

    async def job(self, video_id: str) -> VideoJob:
        """The state of a job. A server may report a failed job with an error status, which does not raise.

        Raises: `ServerBusy` where the job may still be running, in addition to the others.
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
        """The video of a completed job; a broken download is repeated, since the generation took minutes."""
        self._end_turn(video_id)
        path = f"/v1/videos/{video_id}/content"
        return await attempted(lambda: self._ask(path, MAX_VIDEO_BYTES, DOWNLOAD_TIMEOUT_S))

    async def delete(self, video_id: str) -> None:
        """Deletes a job and its video; errors are ignored."""
        try:
            await self._exchange("DELETE", f"/v1/videos/{video_id}", ASK_TIMEOUT_S, MAX_ASK_BYTES)
        except OmniError:
            return
        finally:
            self._end_turn(video_id)

    def _end_turn(self, video_id: str) -> None:
        if video_id in self._running:
            self._running.remove(video_id)
            self.turns.end(self.url)


def failure_of(job: VideoJob) -> OmniError:
    """The error of a failed job."""
    code = job.error.get("code") if isinstance(job.error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return failure(status, {"error": job.error})


def _read_job(fields: dict[str, Any]) -> VideoJob:
    status, seconds = fields.get("status"), fields.get("inference_time_s")
    known = _STATES.get(status.strip().lower(), status) if isinstance(status, str) else ""
    is_time = isinstance(seconds, int | float) and seconds > 0
    return VideoJob(known, fields.get("error"), float(seconds) if is_time and seconds is not None else None)
