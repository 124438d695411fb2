"""Generation of talking videos from an image and audio."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from media.decoding.audio import DecodedAudio
from media.decoding.video import VideoFacts
from media.errors import MediaError
from omni.errors import InvalidResponse
from omni.files.output_folder import OutputFolder, checked_name
from omni.images.previews import fitted
from omni.jobs.job import Item, Job
from omni.jobs.jobs import Jobs, run_in_thread
from omni.video.client import VideoClient
from omni.video.parameters import VideoOptions, VideoParameters, resolve_video
from omni.video.server_jobs import MadeVideo, ServerJobs, VideoStep
from omni.video.servers import VideoModel, VideoServers
from omni.video.text_generate import TextVideoMaker

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoder import Decoder


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
        self._server_jobs = ServerJobs(folder, timeout_s, decoder)
        self._jobs = jobs
        jobs.at_end(servers.close)

    @cached_property
    def from_words(self) -> TextVideoMaker:
        """Makes videos from words with the same servers."""
        return TextVideoMaker(self.servers, self._server_jobs, self._jobs)

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
        parameters, profile = job.plan.parameters, job.plan.model.profile
        begun_s = time.monotonic()
        job.phase = "sending image and audio"
        request = await run_in_thread(lambda: parameters.request(profile, audio.wav))
        return await self._server_jobs.make(
            job, request, png, begun_s, lambda data, seconds: self._save(data, parameters, audio, name, seconds)
        )

    def _save(
        self, data: bytes, parameters: VideoParameters, audio: DecodedAudio, name: str | None, seconds: float
    ) -> MadeVideo:
        notes = []
        facts = self._server_jobs.checked(data)
        if not facts.has_audio:
            data = self._with_audio(data, audio)
            facts = self._server_jobs.checked(data)
            notes.append("The server's video had no audio; the given audio was added.")
        _check_duration(facts, parameters)
        return self._server_jobs.saved(data, parameters, facts, name, seconds, notes)

    def _with_audio(self, data: bytes, audio: DecodedAudio) -> bytes:
        try:
            return self.decoder.add_audio(data, audio.wav)
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
