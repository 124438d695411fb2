"""One generation on a video server: submitted, polled, downloaded, checked and saved, and deleted over there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from media.decoding.video import VideoFacts
from media.errors import MediaError
from omni.errors import (
    ConnectionLost,
    InvalidResponse,
    OmniError,
    OutputFailed,
    ServerBusy,
    ServerFailed,
    ServerTooSlow,
    ServerUnreachable,
)
from omni.files.metadata import with_mp4_text
from omni.files.output_folder import OutputFolder, automatic_name
from omni.images.speed import SpeedBook
from omni.jobs.jobs import run_shielded
from omni.video.client import COMPLETED, FAILED, GONE, VideoClient, VideoJob, failure_of

if TYPE_CHECKING:
    from media.decoder import Decoder
    from omni.video.parameters import VideoParameters
    from omni.video.text_parameters import TextVideoParameters

POLL_S = 0.25
MAX_POLL_S = 2.0
MAX_LOST = 3
"""How many failed polls in a row make the job fail."""
MAX_BUSY = 10
"""How many polls in a row may get the status of a gateway or a busy server."""
DELETE_S = 4.0


class Model(Protocol):
    """What is known of the served model."""

    @property
    def served_as(self) -> str | None:
        """The name in requests; `None` where the server reports no model."""

    @property
    def advice(self) -> str | None:
        """What to say beside the error of an unknown model."""


class Plan(Protocol):
    """What was decided about a video before it is made."""

    @property
    def client(self) -> VideoClient:
        """The server."""

    @property
    def model(self) -> Model:
        """The served model."""

    @property
    def parameters(self) -> Any:
        """`VideoParameters` or `TextVideoParameters`."""


class VideoStep(Protocol):
    """A job of one video, or the part of a job that makes a video."""

    phase: str | None

    @property
    def plan(self) -> Any:
        """What is made, a `Plan`."""


class MadeVideo(msgspec.Struct, frozen=True):
    """A video that was generated, checked and saved."""

    file_path: str
    n_bytes: int
    generation_time_s: float
    parameters: VideoParameters | TextVideoParameters
    facts: VideoFacts
    notes: list[str]


class ServerJobs:
    """Runs generations on video servers.

    Arguments:
        folder: where videos are saved.
        timeout_s: the time limit of a generation.
        decoder: checks videos in a child process.
    """

    def __init__(self, folder: OutputFolder, timeout_s: float, decoder: Decoder) -> None:
        self.folder = folder
        self.decoder = decoder
        self.speeds = SpeedBook()
        self._timeout_s = timeout_s

    async def make(
        self,
        job: VideoStep,
        fields: Mapping[str, str],
        image: bytes | None,
        begun_s: float,
        save: Callable[[bytes, float], MadeVideo],
    ) -> MadeVideo:
        """The video of one request, which is deleted on the server afterwards.

        Arguments:
            job: has the plan (`Plan`); its phase is kept up to date.
            fields: the request without the model's name.
            image: the first frame as a PNG file, if there is one.
            begun_s: when the job began, by the monotonic clock.
            save: checks and saves the downloaded file, given the seconds that it took; runs in a thread.
        """
        plan: Plan = job.plan
        named = {"model": plan.model.served_as} if plan.model.served_as else {}
        video_id = await self._submitted(plan.client, {**named, **fields}, image)
        is_needed = False
        try:
            made = await self._finished(job, video_id, begun_s)
            job.phase = "downloading the video"
            data = await plan.client.content(video_id)
            seconds = time.monotonic() - begun_s
            self.speeds.learn(plan.parameters.model, plan.parameters.megapixel_steps, made.inference_time_s or seconds)
            job.phase = "checking the video"
            return await run_shielded(lambda: save(data, seconds))
        except OutputFailed as error:
            is_needed = True
            raise OutputFailed(
                f"{error} The video was generated, and the server keeps it for a while: "
                f"{plan.client.url}/v1/videos/{video_id}/content"
            ) from None
        finally:
            if not is_needed:
                await _deleted(plan.client, video_id)

    def checked(self, data: bytes) -> VideoFacts:
        """The facts of a downloaded video; raises `InvalidResponse` where it cannot be decoded to its last frame."""
        try:
            return self.decoder.check_video(data)
        except MediaError as error:
            raise InvalidResponse(f"The vLLM server's video is incomplete, and was not kept. {error}") from None

    def saved(
        self,
        data: bytes,
        parameters: VideoParameters | TextVideoParameters,
        facts: VideoFacts,
        name: str | None,
        seconds: float,
        notes: list[str],
    ) -> MadeVideo:
        """Saves a checked video, with its parameters in the file; a note tells of another size than the requested."""
        if (facts.width, facts.height) != (parameters.width, parameters.height):
            notes.append(
                f"The server made {facts.width}x{facts.height} pixels instead of "
                f"{parameters.width}x{parameters.height}."
            )
            parameters = msgspec.structs.replace(parameters, width=facts.width, height=facts.height)
        file = with_mp4_text(data, msgspec.json.encode(parameters).decode())
        path = self.folder.save(file, name or automatic_name("video", parameters.prompt, ".mp4"))
        return MadeVideo(path, len(file), round(seconds, 3), parameters, facts, notes)

    async def _submitted(self, client: VideoClient, fields: Mapping[str, str], image: bytes | None) -> str:
        """Creates the job on the server and returns its id; deletes it again when cancelled meanwhile."""
        submitting = asyncio.ensure_future(client.submit(fields, image))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with contextlib.suppress(OmniError, TimeoutError):
                await _deleted(client, await asyncio.wait_for(submitting, DELETE_S))
            raise

    async def _finished(self, job: VideoStep, video_id: str, begun_s: float) -> VideoJob:
        """Polls until the job on the server is completed; raises why it failed."""
        plan: Plan = job.plan
        n_lost, pause_s = 0, POLL_S
        while True:
            try:
                found = await plan.client.job(video_id)
                n_lost = 0
            except (ServerUnreachable, ServerBusy, ConnectionLost, ServerTooSlow) as error:
                n_lost += 1
                if n_lost >= (MAX_BUSY if isinstance(error, ServerBusy) else MAX_LOST):
                    if isinstance(error, ServerBusy):
                        raise
                    raise ServerFailed(
                        f"The vLLM server at {plan.client.url} stopped responding during the generation; it may have "
                        "crashed. Start it again, check with `list_available_models`, and try again."
                    ) from None
            else:
                if found.status == COMPLETED:
                    return found
                if found.status == FAILED:
                    raise _error_of(found, plan.model)
                if found.status == GONE:
                    raise ServerFailed(
                        f"The vLLM server at {plan.client.url} no longer has the video: it was restarted during the "
                        "generation, or the video was deleted. Try again."
                    )
                job.phase = self._phase(found, plan, time.monotonic() - begun_s)
            if time.monotonic() - begun_s > self._timeout_s:
                raise ServerTooSlow(
                    f"The vLLM server at {plan.client.url} did not finish the video within {self._timeout_s:g} s. Try "
                    "fewer steps, a smaller size or a shorter video, or raise OMNI_VIDEO_TIMEOUT."
                )
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_POLL_S, pause_s * 1.2)

    def _phase(self, found: VideoJob, plan: Plan, elapsed_s: float) -> str:
        """The state of the job; servers report no progress, so the time left is estimated from earlier videos."""
        if found.status == "queued":
            return "waiting in the server's queue"
        measured = self.speeds.measured(plan.parameters.model)
        if measured is None:
            return "generating (the duration is unknown before the first video)"
        speed, n_videos = measured
        left_s = max(0.0, plan.parameters.megapixel_steps / speed - elapsed_s)
        earlier = "1 earlier video" if n_videos == 1 else f"{n_videos} earlier videos"
        return f"generating (about {left_s:.0f} s left, an estimate from {earlier})"


async def _deleted(client: VideoClient, video_id: str) -> None:
    """Deletes a job on the server, even while being cancelled; errors are ignored."""
    deleting = asyncio.ensure_future(client.delete(video_id))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(deleting), DELETE_S)


def _error_of(found: VideoJob, model: Model) -> OmniError:
    error = failure_of(found)
    return error if model.advice is None else ServerFailed(f"{error} {model.advice}")
