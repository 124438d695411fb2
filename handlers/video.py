"""Talking video: a picture, or the first frame of a clip, speaks with a given voice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from handlers.held_images import images_of
from handlers.images import Guidance, Ratio, Seed, Steps
from handlers.jobs import PreviewKind, Wait, report, wait_for
from handlers.pictures import SideBySide, limits_of
from mcp_protocol.tools import ArgumentError
from media.errors import MediaError
from omni.video_parameters import VideoWishes

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from handlers.services import Services
    from mcp_protocol.call import Call
    from mcp_protocol.jsonrpc import Json
    from media.audio import DecodedAudio

NOT_IN_TIME = "The call's time was up before it was read."
MAX_CLIP_FRAMES = 241

Reference = Annotated[str, Meta(min_length=1)]
ModelType = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="Which video server: a name out of list_available_models. Names of InfiniteTalk and MultiTalk "
        "checkpoints mean the default server.",
    ),
]
VideoSide = Annotated[int, Meta(ge=16, le=4_096)]


class VideoArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What both tools that make videos take."""

    audio_path: Annotated[
        Reference,
        Meta(
            description="The voice: absolute path, or file:, data: or http(s) URL, of a file in any common format; a "
            "video's sound is taken too."
        ),
    ]
    text_prompt: (
        Annotated[
            str,
            Meta(max_length=20_000, description="What the video is to show, such as mood, gestures or surroundings."),
        ]
        | None
    ) = None
    width: Annotated[VideoSide, Meta(description="Pixels, with height; left out: the picture's shape.")] | None = None
    height: Annotated[VideoSide, Meta(description="Pixels, with width; left out: the picture's shape.")] | None = None
    aspect_ratio: Ratio | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    num_frames: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MAX_CLIP_FRAMES,
                description="Frames of each clip that the video is made of; left out: what suits model and audio.",
            ),
        ]
        | None
    ) = None
    seed: Annotated[Seed, Meta(description="The same seed makes the same video; left out: drawn, and told.")] | None = (
        None
    )
    filename: (
        Annotated[str, Meta(min_length=1, description="Name of the file in the output folder; left out: made up.")]
        | None
    ) = None
    preview: PreviewKind = "small"
    wait_s: Wait | None = None

    def wishes(self) -> VideoWishes:
        """The same for omni."""
        return VideoWishes(
            text_prompt=self.text_prompt,
            width=self.width,
            height=self.height,
            aspect_ratio=self.aspect_ratio,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            num_frames=self.num_frames,
            seed=self.seed,
        )


class ImageToVideoArguments(VideoArguments, kw_only=True, frozen=True):
    """Arguments of `process_image_to_video`."""

    image_path: Annotated[
        Reference, Meta(description="Who talks: absolute path, or file:, data: or http(s) URL, of a picture.")
    ]
    model_type: ModelType = "single_original"


class VideoToVideoArguments(VideoArguments, kw_only=True, frozen=True):
    """Arguments of `process_video_to_video`."""

    video_path: Annotated[
        Reference, Meta(description="Who talks: absolute path, or file:, data: or http(s) URL, of a clip.")
    ]
    model_type: ModelType = "multi_original"


def process_image_to_video(arguments: ImageToVideoArguments, call: Call, services: Services) -> list[Json]:
    """Makes a picture talk."""
    images = images_of(call, services)

    def picture() -> Image:
        return images.read(arguments.image_path, limits=limits_of(call)).image

    return _process(arguments, arguments.model_type, picture, "image_path", call, services)


def process_video_to_video(arguments: VideoToVideoArguments, call: Call, services: Services) -> list[Json]:
    """Makes the first frame of a clip talk."""

    def picture() -> Image:
        return services.videos.read(arguments.video_path, limits_of(call)).first_frame

    return _process(arguments, arguments.model_type, picture, "video_path", call, services)


def _process(
    arguments: VideoArguments,
    model_type: str,
    read_picture: Callable[[], Image],
    source: str,
    call: Call,
    services: Services,
) -> list[Json]:
    maker = services.video_maker
    maker.servers.client(model_type)  # a wrong name costs nobody a download
    picture, audio = _read(read_picture, source, arguments.audio_path, call, services)
    planning = maker.plan(model_type, arguments.wishes(), picture.size, audio.duration_s)
    plan = services.jobs.ask(planning, call.cancelled)
    job = maker.start(plan, picture, audio, from_clip=source == "video_path", filename=arguments.filename)
    wait_for(job, call, services, arguments.wait_s)
    return report(job, call, services, arguments.preview)


def _read(
    read_picture: Callable[[], Image], source: str, audio_path: str, call: Call, services: Services
) -> tuple[Image, DecodedAudio]:
    """Picture and voice, read side by side; raises `ArgumentError` for the first that cannot be."""

    readers = (read_picture, lambda: services.audio.read(audio_path, limits_of(call)))

    def read(number: int) -> Any:
        try:
            return readers[number]()
        except MediaError as error:
            return str(error)

    results: list[Any] = []
    with SideBySide(read, len(readers), call, NOT_IN_TIME, fetches=True) as found:
        for name, result in zip((source, "audio_path"), found, strict=True):
            if isinstance(result, str):
                raise ArgumentError(f"arguments.{name}: {result}")
            results.append(result)
    return results[0], results[1]
