"""Talking video: the person in an image, or in the first frame of a clip, speaks with a given voice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from handlers.image_reading import OrderedPool, call_images, call_limits
from handlers.media_generation.images import Filename, Guidance, Ratio, Seed, Steps
from handlers.media_generation.jobs import PreviewKind, Wait, outcome, report
from handlers.media_generation.speech import SpokenText, Voice, require_media
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError
from omni.speech.parameters import SpeechOptions
from omni.video.parameters import VideoOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json
    from media.decoding.audio import DecodedAudio

NOT_IN_TIME = "The call's time was up before it was read."
MAX_CLIP_FRAMES = 241

Reference = Annotated[str, Meta(min_length=1)]
ModelType = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="Which video server, as list_available_models names it.",
    ),
]
VideoSide = Annotated[int, Meta(ge=16, le=4_096)]


class VideoArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of both tools that generate videos."""

    audio_path: (
        Annotated[
            Reference,
            Meta(description="The voice: absolute path or URL of an audio file, or of a video with audio."),
        ]
        | None
    ) = None
    speech_text: (
        Annotated[SpokenText, Meta(description="Instead of audio_path: what is said, spoken by the speech model.")]
        | None
    ) = None
    voice: Voice | None = None
    text_prompt: (
        Annotated[str, Meta(max_length=20_000, description="What the video shows: mood, gestures, surroundings.")]
        | None
    ) = None
    width: Annotated[VideoSide | None, Meta(description="Pixels, with height; default: the image's shape.")] = None
    height: Annotated[VideoSide | None, Meta(description="Pixels, with width; default: the image's shape.")] = None
    aspect_ratio: Ratio | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    num_frames: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MAX_CLIP_FRAMES,
                description="Frames of each clip; default: what suits model and audio.",
            ),
        ]
        | None
    ) = None
    seed: Annotated[
        Seed | None, Meta(description="The same seed gives the same video; default: random, and returned.")
    ] = None
    filename: Filename | None = None
    preview: PreviewKind = "small"
    wait_s: Wait | None = None

    def options(self) -> VideoOptions:
        """The options as omni takes them: the arguments of the same names."""
        return msgspec.convert(self, VideoOptions, from_attributes=True)


class ImageToVideoArguments(VideoArguments, kw_only=True, frozen=True):
    """Arguments of `process_image_to_video`."""

    image_path: Annotated[
        Reference, Meta(description="Who speaks: absolute path, or file:, data: or http(s) URL, of an image.")
    ]
    model_type: ModelType = "single_original"


class VideoToVideoArguments(VideoArguments, kw_only=True, frozen=True):
    """Arguments of `process_video_to_video`."""

    video_path: Annotated[
        Reference, Meta(description="Who speaks: absolute path, or file:, data: or http(s) URL, of a clip.")
    ]
    model_type: ModelType = "multi_original"


def process_image_to_video(arguments: ImageToVideoArguments, call: Call, services: Services) -> list[Json]:
    """Generates a video in which an image speaks, with a recorded voice or with one made from words."""
    images = call_images(call, services)

    def read_image() -> Image:
        return images.read(arguments.image_path).image

    return _process(arguments, arguments.model_type, read_image, "image_path", call, services)


def process_video_to_video(arguments: VideoToVideoArguments, call: Call, services: Services) -> list[Json]:
    """Generates a video in which the first frame of a clip speaks."""

    def read_image() -> Image:
        return services.videos.read(arguments.video_path, call_limits(call)).first_frame

    return _process(arguments, arguments.model_type, read_image, "video_path", call, services)


def _process(
    arguments: VideoArguments,
    model_type: str,
    read_image: Callable[[], Image],
    source: str,
    call: Call,
    services: Services,
) -> list[Json]:
    maker = services.video_maker
    maker.servers.client(model_type)  # rejects an unknown name before anything is downloaded
    from_clip = source == "video_path"
    if (arguments.audio_path is None) == (arguments.speech_text is None):
        raise ArgumentError("Give either audio_path, a recorded voice, or speech_text, the words to speak.")
    if arguments.audio_path is None:
        return _process_words(arguments, model_type, read_image, source, call, services)
    if arguments.voice is not None:
        raise ArgumentError("arguments.voice: it is the voice that speaks speech_text; audio_path has its own.")
    image, audio = _read(read_image, source, arguments.audio_path, call, services)
    planning = maker.plan(model_type, arguments.options(), image.size, audio.duration_s, from_clip=from_clip)
    plan = services.jobs.ask(planning, call.cancellation)
    job = maker.start(plan, image, audio, filename=arguments.filename)
    return outcome(job, call, services, arguments.wait_s, partial(report, job, call, services, arguments.preview))


def _process_words(
    arguments: VideoArguments,
    model_type: str,
    read_image: Callable[[], Image],
    source: str,
    call: Call,
    services: Services,
) -> list[Json]:
    """Makes the voice from words, and the video from it, as one job."""
    require_media()
    (image,) = _read_all({source: read_image}, call)
    from omni.speech.talking import TalkingMaker

    max_s, ask = services.settings.media.max_audio_s, services.jobs.ask
    maker = TalkingMaker(services.speech_maker, services.video_maker, services.jobs, max_s)
    options = SpeechOptions(voice=arguments.voice, seed=arguments.seed)
    speech = ask(
        services.speech_maker.plan(arguments.speech_text or "", options, has_reference=False), call.cancellation
    )
    planning = maker.plan(speech, model_type, arguments.options(), from_clip=source == "video_path")
    job = maker.start(ask(planning, call.cancellation), image, filename=arguments.filename)
    return outcome(job, call, services, arguments.wait_s, partial(report, job, call, services, arguments.preview))


def _read(
    read_image: Callable[[], Image], source: str, audio_path: str, call: Call, services: Services
) -> tuple[Image, DecodedAudio]:
    """Reads image and voice in parallel; raises `ArgumentError` for the first that cannot be read."""
    image, audio = _read_all(
        {source: read_image, "audio_path": lambda: services.audio.read(audio_path, call_limits(call))}, call
    )
    return image, audio


def _read_all(readers: Mapping[str, Callable[[], Any]], call: Call) -> list[Any]:
    """Reads the media of arguments in parallel; raises `ArgumentError` for the first that cannot be read."""
    names, functions = list(readers), list(readers.values())

    def read(index: int) -> Any:
        try:
            return functions[index]()
        except MediaError as error:
            return str(error)

    media: list[Any] = []
    with OrderedPool(read, len(functions), call, NOT_IN_TIME, downloads=True) as results:
        for name, result in zip(names, results, strict=True):
            if isinstance(result, str):
                raise ArgumentError(f"arguments.{name}: {result}")
            media.append(result)
    return media
