"""A talking video from words, as one job: the voice is made, checked and saved, then the video from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from media.errors import MediaError
from omni.errors import InvalidParameters, JobFailed, OmniError, OutputFailed
from omni.files.output_folder import checked_name, shown_path
from omni.images.previews import fitted
from omni.jobs.jobs import run_in_thread

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoding.audio import DecodedAudio
    from omni.jobs.job import Item, Job
    from omni.jobs.jobs import Jobs
    from omni.speech.generate import MadeSpeech, SpeechMaker, SpeechPlan
    from omni.video.generate import VideoMaker, VideoPlan
    from omni.video.parameters import VideoOptions
    from omni.video.server_jobs import MadeVideo


class TalkingPlan(msgspec.Struct, frozen=True):
    """What is decided before the voice is made; size and frames of the video follow from the voice."""

    speech: SpeechPlan
    model_type: str
    options: VideoOptions
    from_clip: bool


class MadeTalking(msgspec.Struct, frozen=True):
    """A video, the plan that it was made by, and its voice."""

    voice: MadeSpeech
    plan: VideoPlan
    video: MadeVideo

    @property
    def file_path(self) -> str:
        """The path of the video."""
        return self.video.file_path

    @property
    def notes(self) -> list[str]:
        """What the result says about the video."""
        return self.video.notes


@dataclass(slots=True)
class _VideoStep:
    """The part of the job that makes the video: its phases are those of the job."""

    plan: VideoPlan
    job: Job[TalkingPlan, MadeTalking]

    @property
    def phase(self) -> str | None:
        """The job's phase."""
        return self.job.phase

    @phase.setter
    def phase(self, phase: str | None) -> None:
        self.job.phase = phase


class TalkingMaker:
    """Makes talking videos from words. Any thread may call its methods.

    Arguments:
        speech: makes the voices.
        video: makes the videos.
        jobs: runs the generations.
        max_audio_s: the longest voice of a video, in seconds.
    """

    def __init__(self, speech: SpeechMaker, video: VideoMaker, jobs: Jobs, max_audio_s: float) -> None:
        self._speech = speech
        self._video = video
        self._jobs = jobs
        self._max_audio_s = max_audio_s

    async def plan(self, speech: SpeechPlan, model_type: str, options: VideoOptions, *, from_clip: bool) -> TalkingPlan:
        """Checks before the voice is made that there is a model for the video.

        Raises: `InvalidParameters`, `ServerRefused`, and the client's errors.
        """
        await self._video.servers.model(self._video.servers.client(model_type))
        return TalkingPlan(speech, model_type, options, from_clip)

    def start(self, plan: TalkingPlan, image: Image, *, filename: str | None) -> Job[TalkingPlan, MadeTalking]:
        """Starts a job that makes voice and video.

        Raises: `InvalidParameters` for the file's name, `TooManyJobs`.
        """
        name = None if filename is None else checked_name(filename, ".mp4")

        async def work(job: Job[TalkingPlan, MadeTalking], item: Item[MadeTalking]) -> MadeTalking:
            voice = await self._speech.make(job, plan.speech, None, None)
            job.kept_files.append(voice.file_path)
            if job.cancelling:  # while the voice was saved, which is not broken off
                raise asyncio.CancelledError
            try:
                return await self._filmed(job, voice, image, name)
            except OmniError as error:
                raise _with_voice(error, voice) from None

        url = self._video.servers.client(plan.model_type).url
        return self._jobs.start("talking", [plan.speech.parameters.text], work, server=url, plan=plan)

    async def _filmed(
        self, job: Job[TalkingPlan, MadeTalking], voice: MadeSpeech, image: Image, name: str | None
    ) -> MadeTalking:
        job.phase = "planning the video"
        wanted = job.plan
        audio = await run_in_thread(lambda: self._audio(voice))
        plan = await self._video.plan(
            wanted.model_type, wanted.options, image.size, audio.duration_s, from_clip=wanted.from_clip
        )
        png = await run_in_thread(lambda: fitted(image, plan.parameters.width, plan.parameters.height))
        video = await self._video.make(_VideoStep(plan, job), png, audio, name)
        return MadeTalking(voice, plan, video)

    def _audio(self, voice: MadeSpeech) -> DecodedAudio:
        """The voice as the video models take it."""
        try:
            with open(voice.file_path, "rb") as file:
                return self._video.decoder.audio(file.read(), self._max_audio_s)
        except OSError:
            raise OutputFailed("The file of the voice was moved or changed before the video was made.") from None
        except MediaError as error:
            raise InvalidParameters(str(error)) from None


def _with_voice(error: OmniError, voice: MadeSpeech) -> OmniError:
    """The same error, which also says where the voice is."""
    return JobFailed(f"{error} The voice was made and is kept: {shown_path(voice.file_path)}")
