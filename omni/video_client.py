"""The videos API of a vLLM-Omni server: a job there is made, looked at, fetched and deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from omni.client import ASK_TIMEOUT_S, MAX_ASK_BYTES, OmniClient, failure
from omni.errors import OmniError, UnusableAnswer

SUBMIT_TIMEOUT_S = 120.0
"""For sending a picture and two minutes of sound over a slow line; the answer comes as soon as they are there."""
DOWNLOAD_TIMEOUT_S = 600.0
MAX_VIDEO_BYTES = 500_000_000
GONE = "gone"
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class VideoJob(msgspec.Struct, frozen=True):
    """A job on the server, as it tells of it; `status` is queued, in_progress, completed or failed, and `GONE` where
    the server knows of none. `progress` there is 0 until it is 100, so it is not among these."""

    id: str
    status: str
    error: Any = None
    inference_time_s: float | None = None
    peak_memory_mb: float | None = None


class VideoClient(OmniClient):
    """One server that makes videos. Beside the base's errors, every method raises `OmniError`s only."""

    url_setting = "OMNI_VIDEO_URL or OMNI_VIDEO_MODELS"
    health_tool = "list_available_models"

    async def submit(self, fields: Mapping[str, str], picture: bytes) -> str:
        """Starts a job and returns its id there; `picture` is a PNG file."""
        files = {"input_reference": ("picture.png", picture, "image/png")}
        data = await self._answer("POST", "/v1/videos", SUBMIT_TIMEOUT_S, MAX_ASK_BYTES, data=dict(fields), files=files)
        video_id = self._decoded(data, VideoJob).id
        if not _ID.fullmatch(video_id):  # it becomes part of paths
            raise UnusableAnswer("The vLLM server gave its job an id that cannot be one.")
        return video_id

    async def job(self, video_id: str) -> VideoJob:
        """How far a job is. One that failed is told of with the status of an error, which is not raised."""
        status, data = await self._exchange("GET", f"/v1/videos/{video_id}", ASK_TIMEOUT_S, MAX_ASK_BYTES)
        if 200 <= status < 300:
            return self._decoded(data, VideoJob)
        if status == 404:
            return VideoJob(video_id, GONE)
        try:
            job = msgspec.json.decode(data, type=VideoJob)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise failure(status, data) from None
        if job.status != "failed":
            raise failure(status, data)
        return job

    async def content(self, video_id: str) -> bytes:
        """The file of a job that is completed."""
        return await self._answer("GET", f"/v1/videos/{video_id}/content", DOWNLOAD_TIMEOUT_S, MAX_VIDEO_BYTES)

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
    return failure(status, msgspec.json.encode({"error": job.error}))
