"""Video from words, or from an image and words: `generate_video`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from handlers.image_reading import call_images
from handlers.media_generation.images import Filename, Guidance, NegativePrompt, Ratio, Seed, Steps
from handlers.media_generation.jobs import PreviewKind, Wait, outcome, report
from handlers.media_generation.speech import require_media
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError
from omni.video.text_parameters import MAX_FRAMES, TextVideoOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json

Side = Annotated[int, Meta(ge=16, le=4_096, description="Pixels, with the other side; default: image's or model's.")]


class GenerateVideoArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `generate_video`."""

    prompt: Annotated[
        str,
        Meta(min_length=1, max_length=20_000, description="What the video shows: subject, motion, camera, light."),
    ]
    image_path: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description="The first frame: absolute path, URL, or job_id or batch_id#index of an earlier image.",
            ),
        ]
        | None
    ) = None
    negative_prompt: NegativePrompt | None = None
    width: Side | None = None
    height: Side | None = None
    aspect_ratio: Ratio | None = None
    num_frames: (
        Annotated[int, Meta(ge=5, le=MAX_FRAMES, description="Instead of duration_s; default: the model's.")] | None
    ) = None
    duration_s: Annotated[float, Meta(gt=0, le=60, description="Length in seconds.")] | None = None
    fps: Annotated[int, Meta(ge=1, le=60, description="Frames a second; default: the model's.")] | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    seed: Annotated[Seed | None, Meta(description="The same seed gives the same video; default: random.")] = None
    model_type: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                description="Which video server, as list_available_models names it; default: the first that can.",
            ),
        ]
        | None
    ) = None
    filename: Filename | None = None
    preview: PreviewKind = "small"
    wait_s: Wait | None = None

    def options(self) -> TextVideoOptions:
        """The options as omni takes them: the arguments of the same names."""
        return msgspec.convert(self, TextVideoOptions, from_attributes=True)


def generate_video(arguments: GenerateVideoArguments, call: Call, services: Services) -> list[Json]:
    """Generates a video from words, or from an image and words, as a job with one item."""
    require_media("video")
    if arguments.model_type is not None:
        services.video_maker.servers.client(arguments.model_type)  # rejects an unknown name before any download
    maker = services.video_maker.from_words
    image = None if arguments.image_path is None else _read(arguments.image_path, call, services)
    size = None if image is None else image.size
    planning = maker.plan(arguments.prompt, arguments.options(), size, arguments.model_type)
    plan = services.jobs.ask(planning, call.cancellation)
    job = maker.start(plan, image, filename=arguments.filename)
    return outcome(job, call, services, arguments.wait_s, partial(report, job, call, services, arguments.preview))


def _read(path: str, call: Call, services: Services) -> Image:
    """The image that the video begins with; raises `ArgumentError`."""
    try:
        return call_images(call, services).read(path).image
    except MediaError as error:
        raise ArgumentError(f"arguments.image_path: {error}") from None
