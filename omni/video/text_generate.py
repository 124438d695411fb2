"""Generation of videos from words, or from an image and words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from media.decoding.video import VideoFacts
from omni.errors import InvalidResponse
from omni.files.output_folder import checked_name
from omni.images.previews import fitted
from omni.images.shapes import Size
from omni.jobs.job import Item, Job
from omni.jobs.jobs import Jobs
from omni.video.client import VideoClient
from omni.video.server_jobs import MadeVideo, ServerJobs
from omni.video.servers import TextVideoModel, VideoServers
from omni.video.text_parameters import TextVideoOptions, TextVideoParameters, resolve_text_video

if TYPE_CHECKING:
    from PIL.Image import Image

_TOO_MANY = 2
"""A video with more than this many times the requested frames, or fewer than one part of this many, is not kept."""
_FPS_DIFFERENCE = 0.01


class TextVideoPlan(msgspec.Struct, frozen=True):
    """Everything that is decided before a video is made. The job keeps it, so it holds no media."""

    client: VideoClient
    model: TextVideoModel
    parameters: TextVideoParameters
    notes: list[str]

    @property
    def method(self) -> str:
        """What the video is made from."""
        return "image + text" if self.parameters.reference_images else "text"


class TextVideoMaker:
    """Makes videos from words with vLLM-Omni servers. Its coroutines run on the event loop of `jobs`; any thread may
    call the other methods.

    Arguments:
        servers: the servers by name.
        server_jobs: runs a generation on one of them.
        jobs: runs the generations here.
    """

    def __init__(self, servers: VideoServers, server_jobs: ServerJobs, jobs: Jobs) -> None:
        self._servers = servers
        self._server_jobs = server_jobs
        self._jobs = jobs

    async def plan(
        self, prompt: str, options: TextVideoOptions, image: Size | None, model_type: str | None = None
    ) -> TextVideoPlan:
        """Decides everything about a video, without making it.

        Arguments:
            prompt: what the video shows.
            options: what the caller set.
            image: the size of the image that the video begins with.
            model_type: the server; by default the first whose model makes such a video.

        Raises: `InvalidParameters`, `OutputFailed`, `ServerRefused`, and the client's errors.
        """
        client, model = await self._servers.text_model(model_type, with_image=image is not None)
        self._server_jobs.folder.check()
        parameters, notes = resolve_text_video(model.name, model.profile, prompt, options, image)
        notes = [*([model.warning] if model.warning else []), *notes]
        return TextVideoPlan(client, model, parameters, notes)

    def start(self, plan: TextVideoPlan, image: Image | None, *, filename: str | None) -> Job[TextVideoPlan, MadeVideo]:
        """Starts a job that makes the video of a plan.

        Raises: `InvalidParameters` for the file's name, `TooManyJobs`.
        """
        name = None if filename is None else checked_name(filename, ".mp4")
        parameters = plan.parameters
        png = None if image is None else fitted(image, parameters.width, parameters.height)

        def save(data: bytes, seconds: float) -> MadeVideo:
            facts = self._server_jobs.checked(data)
            notes = _differences(facts, parameters)
            return self._server_jobs.saved(data, parameters, facts, name, seconds, notes)

        async def work(job: Job[TextVideoPlan, MadeVideo], item: Item[MadeVideo]) -> MadeVideo:
            job.phase = "sending the request"
            return await self._server_jobs.make(job, parameters.request(), png, time.monotonic(), save)

        return self._jobs.start("video", [parameters.prompt], work, server=plan.client.url, plan=plan)


def _differences(facts: VideoFacts, parameters: TextVideoParameters) -> list[str]:
    """Notes about what differs from the request; raises `InvalidResponse` for a much shorter or longer video."""
    asked_s = parameters.num_frames / parameters.fps
    for made, asked in ((facts.frames, parameters.num_frames), (facts.duration_s, asked_s)):
        if not asked / _TOO_MANY <= made <= asked * _TOO_MANY:
            raise InvalidResponse(
                f"The vLLM server's video has {facts.frames} frames in {facts.duration_s:.2f} s where "
                f"{parameters.num_frames} frames in {asked_s:.2f} s were requested, and was not kept."
            )
    notes = []
    if facts.frames != parameters.num_frames:
        notes.append(f"The server made {facts.frames} frames instead of {parameters.num_frames}.")
    if facts.fps is not None and abs(facts.fps / parameters.fps - 1) > _FPS_DIFFERENCE:
        notes.append(f"The server's video has {facts.fps:g} frames a second instead of {parameters.fps}.")
    return notes
