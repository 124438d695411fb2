"""A picture and a voice become a video that talks: made by a server, fetched, checked to its last frame, and saved."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from media.audio import DecodedAudio
from media.errors import MediaError
from media.video import VideoFacts
from omni import mp4
from omni.aside import aside, kept
from omni.errors import (
    ConnectionLost,
    OmniError,
    OutputFailed,
    ServerBusy,
    ServerFailed,
    ServerTooSlow,
    ServerUnreachable,
    UnusableAnswer,
)
from omni.files import OutputFolder, automatic_name, checked_name
from omni.job import Item, Job
from omni.jobs import Jobs
from omni.pictures import fitted
from omni.speed import SpeedBook
from omni.video_client import COMPLETED, FAILED, GONE, VideoClient, VideoJob, failure_of
from omni.video_models import CAPABLE
from omni.video_parameters import VideoParameters, VideoWishes, resolve_video
from omni.video_servers import VideoModel, VideoServers

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoder import Decoder

POLL_S = 0.25
MAX_POLL_S = 2.0
MAX_LOST = 3
"""So many questions in a row may stay without an answer before the server is given up."""
MAX_BUSY = 10
"""So many may be answered in a row by something before the server that cannot reach it now."""
DELETE_S = 4.0


class VideoPlan(msgspec.Struct, frozen=True):
    """All that is decided before a video is made."""

    model_type: str
    client: VideoClient
    model: VideoModel
    parameters: VideoParameters
    notes: list[str]


class MadeVideo(msgspec.Struct, frozen=True):
    """A video that was made, checked and saved."""

    file_path: str
    n_bytes: int
    generation_time_s: float
    parameters: VideoParameters
    facts: VideoFacts
    notes: list[str]


class VideoOrder(msgspec.Struct, frozen=True):
    """What reports need to know of a job that makes a video: it is kept as long as the job, so without the media."""

    plan: VideoPlan
    from_clip: bool

    @property
    def method(self) -> str:
        """What the video was made from."""
        return "first frame of the video + audio" if self.from_clip else "image + audio"


class VideoMaker:
    """Talking videos of some vLLM-Omni servers. Its coroutines run on the loop of `jobs`; the rest may be called from
    any thread."""

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

    async def plan(self, model_type: str, wishes: VideoWishes, picture: tuple[int, int], audio_s: float) -> VideoPlan:
        """Decides everything about a video; `picture` is (width, height).

        Raises: `InvalidParameters`, `OutputFailed`, `ServerRefused`, and the client's errors.
        """
        client = self.servers.client(model_type)
        model = await self.servers.model(client)
        self.folder.check()
        parameters, notes = resolve_video(model.name, model.profile, wishes, picture, audio_s)
        return VideoPlan(model_type, client, model, parameters, [*([model.warning] if model.warning else []), *notes])

    def start(
        self, plan: VideoPlan, picture: Image, audio: DecodedAudio, *, from_clip: bool, filename: str | None
    ) -> Job:
        """Starts the job that makes a plan's video.

        Raises: `InvalidParameters` for the file's name, `TooManyJobs`.
        """
        name = None if filename is None else checked_name(filename, ".mp4")
        png = fitted(picture, plan.parameters.width, plan.parameters.height)

        async def work(job: Job, item: Item) -> MadeVideo:
            return await self._make(job, plan, png, audio, name)

        label = plan.parameters.prompt
        return self._jobs.start("video", [label], work, server=plan.client.url, details=VideoOrder(plan, from_clip))

    async def _make(self, job: Job, plan: VideoPlan, png: bytes, audio: DecodedAudio, name: str | None) -> MadeVideo:
        begun_s = time.monotonic()
        job.phase = "sending picture and sound"
        asked = await aside(lambda: plan.parameters.request(plan.model.profile, audio.wav))
        fields = {**({"model": plan.model.served_as} if plan.model.served_as else {}), **asked}
        video_id = await self._submitted(plan.client, fields, png)
        is_needed = False
        try:
            made = await self._finished(job, plan, video_id, begun_s)
            job.phase = "fetching the video"
            data = await plan.client.content(video_id)
            seconds = time.monotonic() - begun_s
            self.speeds.learn(plan.parameters, made.inference_time_s or seconds)
            job.phase = "checking the video"
            return await kept(lambda: self._save(data, plan.parameters, audio, name, seconds))
        except OutputFailed as error:
            is_needed = True
            raise OutputFailed(
                f"{error} The video was made, and is kept on the server for a while: "
                f"{plan.client.url}/v1/videos/{video_id}/content"
            ) from None
        finally:
            if not is_needed:
                await _deleted(plan.client, video_id)

    async def _submitted(self, client: VideoClient, fields: dict[str, str], png: bytes) -> str:
        """The id of the job on the server; cancelled meanwhile, the job that came of it is deleted."""
        submitting = asyncio.ensure_future(client.submit(fields, png))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with contextlib.suppress(OmniError, TimeoutError):
                await _deleted(client, await asyncio.wait_for(submitting, DELETE_S))
            raise

    async def _finished(self, job: Job, plan: VideoPlan, video_id: str, begun_s: float) -> VideoJob:
        """Asks until the server is done; raises why it is not."""
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
                        f"The vLLM server at {plan.client.url} stopped answering while it made the video; it may have "
                        "crashed. Start it again, check with `list_available_models`, and try again."
                    ) from None
            else:
                if found.status == COMPLETED:
                    return found
                if found.status == FAILED:
                    raise _why(found, plan.model)
                if found.status == GONE:
                    raise ServerFailed(
                        f"The vLLM server at {plan.client.url} does not know the video any more: it was started anew "
                        "while it made it, or somebody deleted it. Try again."
                    )
                job.phase = self._phase(found, plan.parameters, time.monotonic() - begun_s)
            if time.monotonic() - begun_s > self._timeout_s:
                raise ServerTooSlow(
                    f"The vLLM server at {plan.client.url} did not make the video within {self._timeout_s:g} s. Try "
                    "fewer steps, a smaller size or shorter audio, or raise OMNI_VIDEO_TIMEOUT."
                )
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_POLL_S, pause_s * 1.2)

    def _phase(self, found: VideoJob, parameters: VideoParameters, elapsed_s: float) -> str:
        """What the server does; it tells nothing of how far it is, so the rest is an estimate from earlier videos."""
        if found.status == "queued":
            return "waiting in the server's queue"
        measured = self.speeds.measured(parameters.model)
        if measured is None:
            return "generating (how long it takes is not known before the first video)"
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
            data = _with_sound(data, audio, self.decoder)
            facts = _checked(data, self.decoder)
            notes.append("The server's video had no sound; the given audio was put to it.")
        _check_duration(facts, parameters)
        if (facts.width, facts.height) != (parameters.width, parameters.height):
            notes.append(
                f"The server made {facts.width}x{facts.height} pixels of {parameters.width}x{parameters.height}."
            )
            parameters = msgspec.structs.replace(parameters, width=facts.width, height=facts.height)
        file = mp4.with_text(data, msgspec.json.encode(parameters).decode())
        path = self.folder.save(file, name or automatic_name("video", parameters.prompt, ".mp4"))
        return MadeVideo(path, len(file), round(seconds, 3), parameters, facts, notes)


async def _deleted(client: VideoClient, video_id: str) -> None:
    """Deletes a job on the server, also while being cancelled; whether that works makes no difference here."""
    deleting = asyncio.ensure_future(client.delete(video_id))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(deleting), DELETE_S)


def _checked(data: bytes, decoder: Decoder) -> VideoFacts:
    try:
        return decoder.check_video(data)
    except MediaError as error:
        raise UnusableAnswer(f"What the vLLM server made is no whole video, and was not kept. {error}") from None


def _with_sound(data: bytes, audio: DecodedAudio, decoder: Decoder) -> bytes:
    try:
        return decoder.with_sound(data, audio.wav)
    except MediaError as error:
        raise UnusableAnswer(f"The vLLM server's video has no sound, and takes none: {error}") from None


def _check_duration(facts: VideoFacts, parameters: VideoParameters) -> None:
    """Raises `UnusableAnswer` where a video is further from its sound than one clip, or not half as long."""
    is_near = abs(facts.duration_s - parameters.audio_s) <= parameters.clip_s + 1 / parameters.fps
    if not is_near or facts.duration_s < parameters.audio_s / 2:
        raise UnusableAnswer(
            f"The vLLM server's video lasts {facts.duration_s:.2f} s for {parameters.audio_s:.2f} s of audio, and was "
            "not kept."
        )


def _why(found: VideoJob, model: VideoModel) -> OmniError:
    error = failure_of(found)
    return error if model.known else ServerFailed(f"{error} Models that are known to make talking videos: {CAPABLE}.")
