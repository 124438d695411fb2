"""Generation of talking videos from an image and audio: runs on a server, is downloaded, checked and saved."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from media.decoding.audio import DecodedAudio
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
from omni.files.output_folder import OutputFolder, automatic_name, checked_name
from omni.images.previews import fitted
from omni.images.speed import SpeedBook
from omni.jobs.job import Item, Job
from omni.jobs.jobs import Jobs, run_in_thread, run_shielded
from omni.video.client import COMPLETED, FAILED, GONE, VideoClient, VideoJob, failure_of
from omni.video.models import CAPABLE
from omni.video.parameters import VideoOptions, VideoParameters, resolve_video
from omni.video.servers import VideoModel, VideoServers

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoder import Decoder

POLL_S = 0.25
MAX_POLL_S = 2.0
MAX_LOST = 3
"""How many failed polls in a row make the job fail."""
MAX_BUSY = 10
"""How many polls in a row may get the status of a gateway or a busy server."""
DELETE_S = 4.0


class VideoPlan(msgspec.Struct, frozen=True):
    """Everything that is decided before a video is made. The job keeps it, so it holds no media.

    Attributes: `from_clip`, whether the image is the first frame of a video.
    """

    model_type: str
    client: VideoClient
    model: VideoModel
    parameters: VideoParameters
    notes: list[str]
    from_clip: bool

    @property
    def method(self) -> str:
        """What the video is made from."""
        return "first frame of the video + audio" if self.from_clip else "image + audio"


class VideoStep(Protocol):
    """A job of one video, or the part of a job that makes a video."""

    phase: str | None

    @property
    def plan(self) -> VideoPlan:
        """What is made."""


class MadeVideo(msgspec.Struct, frozen=True):
    """A video that was generated, checked and saved."""

    file_path: str
    n_bytes: int
    generation_time_s: float
    parameters: VideoParameters
    facts: VideoFacts
    notes: list[str]


class VideoMaker:
    """Makes talking videos with vLLM-Omni servers. Its coroutines run on the event loop of `jobs`; any thread may call
    the other methods.

    Arguments:
        servers: the servers by name.
        folder: where videos are saved.
        jobs: runs the generations.
        timeout_s: the time limit of a generation.
        decoder: checks videos in a child process.
    """

    def __init__(
        self, servers: VideoServers, folder: OutputFolder, jobs: Jobs, timeout_s: float, decoder: Decoder
    ) -> None:
        self.servers = servers
        self.decoder = decoder
        self.folder = folder
        self.speeds = SpeedBook()
        self._jobs = jobs
        self._timeout_s = timeout_s
        jobs.at_end(servers.close)

    async def plan(
        self, model_type: str, options: VideoOptions, image: tuple[int, int], audio_s: float, *, from_clip: bool
    ) -> VideoPlan:
        """Decides everything about a video, without making it; `image` is (width, height).

        Raises: `InvalidParameters`, `OutputFailed`, `ServerRefused`, and the client's errors.
        """
        client = self.servers.client(model_type)
        model = await self.servers.model(client)
        self.folder.check()
        parameters, notes = resolve_video(model.name, model.profile, options, image, audio_s)
        notes = [*([model.warning] if model.warning else []), *notes]
        return VideoPlan(model_type, client, model, parameters, notes, from_clip)

    def start(
        self, plan: VideoPlan, image: Image, audio: DecodedAudio, *, filename: str | None
    ) -> Job[VideoPlan, MadeVideo]:
        """Starts a job that makes the video of a plan.

        Raises: `InvalidParameters` for the file's name, `TooManyJobs`.
        """
        name = None if filename is None else checked_name(filename, ".mp4")
        png = fitted(image, plan.parameters.width, plan.parameters.height)

        async def work(job: Job[VideoPlan, MadeVideo], item: Item[MadeVideo]) -> MadeVideo:
            return await self.make(job, png, audio, name)

        return self._jobs.start("video", [plan.parameters.prompt], work, server=plan.client.url, plan=plan)

    async def make(self, job: VideoStep, png: bytes, audio: DecodedAudio, name: str | None) -> MadeVideo:
        """Makes the video of a plan in a job that runs; `png` has the plan's size."""
        plan = job.plan
        begun_s = time.monotonic()
        job.phase = "sending image and audio"
        request = await run_in_thread(lambda: plan.parameters.request(plan.model.profile, audio.wav))
        fields = {**({"model": plan.model.served_as} if plan.model.served_as else {}), **request}
        video_id = await self._submitted(plan.client, fields, png)
        is_needed = False
        try:
            made = await self._finished(job, video_id, begun_s)
            job.phase = "downloading the video"
            data = await plan.client.content(video_id)
            seconds = time.monotonic() - begun_s
            self.speeds.learn(plan.parameters.model, plan.parameters.megapixel_steps, made.inference_time_s or seconds)
            job.phase = "checking the video"
            return await run_shielded(lambda: self._save(data, plan.parameters, audio, name, seconds))
        except OutputFailed as error:
            is_needed = True
            raise OutputFailed(
                f"{error} The video was generated, and the server keeps it for a while: "
                f"{plan.client.url}/v1/videos/{video_id}/content"
            ) from None
        finally:
            if not is_needed:
                await _deleted(plan.client, video_id)

    async def _submitted(self, client: VideoClient, fields: dict[str, str], png: bytes) -> str:
        """Creates the job on the server and returns its id; deletes it again when cancelled meanwhile."""
        submitting = asyncio.ensure_future(client.submit(fields, png))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with contextlib.suppress(OmniError, TimeoutError):
                await _deleted(client, await asyncio.wait_for(submitting, DELETE_S))
            raise

    async def _finished(self, job: VideoStep, video_id: str, begun_s: float) -> VideoJob:
        """Polls until the job on the server is completed; raises why it failed."""
        plan, n_lost, pause_s = job.plan, 0, POLL_S
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
                job.phase = self._phase(found, plan.parameters, time.monotonic() - begun_s)
            if time.monotonic() - begun_s > self._timeout_s:
                raise ServerTooSlow(
                    f"The vLLM server at {plan.client.url} did not finish the video within {self._timeout_s:g} s. Try "
                    "fewer steps, a smaller size or shorter audio, or raise OMNI_VIDEO_TIMEOUT."
                )
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_POLL_S, pause_s * 1.2)

    def _phase(self, found: VideoJob, parameters: VideoParameters, elapsed_s: float) -> str:
        """The state of the job; servers report no progress, so the time left is estimated from earlier videos."""
        if found.status == "queued":
            return "waiting in the server's queue"
        measured = self.speeds.measured(parameters.model)
        if measured is None:
            return "generating (the duration is unknown before the first video)"
        speed, n_videos = measured
        left_s = max(0.0, parameters.megapixel_steps / speed - elapsed_s)
        earlier = "1 earlier video" if n_videos == 1 else f"{n_videos} earlier videos"
        return f"generating (about {left_s:.0f} s left, an estimate from {earlier})"

    def _save(
        self, data: bytes, parameters: VideoParameters, audio: DecodedAudio, name: str | None, seconds: float
    ) -> MadeVideo:
        notes = []
        facts = _checked(data, self.decoder)
        if not facts.has_audio:
            data = _add_audio(data, audio, self.decoder)
            facts = _checked(data, self.decoder)
            notes.append("The server's video had no audio; the given audio was added.")
        _check_duration(facts, parameters)
        if (facts.width, facts.height) != (parameters.width, parameters.height):
            notes.append(
                f"The server made {facts.width}x{facts.height} pixels instead of "
                f"{parameters.width}x{parameters.height}."
            )
            parameters = msgspec.structs.replace(parameters, width=facts.width, height=facts.height)
        file = with_mp4_text(data, msgspec.json.encode(parameters).decode())
        path = self.folder.save(file, name or automatic_name("video", parameters.prompt, ".mp4"))
        return MadeVideo(path, len(file), round(seconds, 3), parameters, facts, notes)


async def _deleted(client: VideoClient, video_id: str) -> None:
    """Deletes a job on the server, even while being cancelled; errors are ignored."""
    deleting = asyncio.ensure_future(client.delete(video_id))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(deleting), DELETE_S)


def _checked(data: bytes, decoder: Decoder) -> VideoFacts:
    try:
        return decoder.check_video(data)
    except MediaError as error:
        raise InvalidResponse(f"The vLLM server's video is incomplete, and was not kept. {error}") from None


def _add_audio(data: bytes, audio: DecodedAudio, decoder: Decoder) -> bytes:
    try:
        return decoder.add_audio(data, audio.wav)
    except MediaError as error:
        raise InvalidResponse(f"The vLLM server's video has no audio, and none can be added: {error}") from None


def _check_duration(facts: VideoFacts, parameters: VideoParameters) -> None:
    """Raises `InvalidResponse` where a video differs from its audio by more than one clip, or by half of it."""
    is_near = abs(facts.duration_s - parameters.audio_s) <= parameters.clip_s + 1 / parameters.fps
    if not is_near or facts.duration_s < parameters.audio_s / 2:
        raise InvalidResponse(
            f"The vLLM server's video lasts {facts.duration_s:.2f} s for {parameters.audio_s:.2f} s of audio, and was "
            "not kept."
        )


def _error_of(found: VideoJob, model: VideoModel) -> OmniError:
    error = failure_of(found)
    return error if model.known else ServerFailed(f"{error} Models known to make talking videos: {CAPABLE}.")
