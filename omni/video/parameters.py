"""Resolves the parameters of a talking video from the call, the model's profile and the image's size."""

from __future__ import annotations

import base64
import math
import re

import msgspec

from omni.errors import InvalidParameters
from omni.images.parameters import check_multiples, draw_seed
from omni.video.models import VideoProfile, extra_fields

DEFAULT_PROMPT = "A person talks to the viewer."
"""The models require a prompt; this one adds nothing to the image and the audio."""
MIN_CLIP_FRAMES = 16
_RATIO = re.compile(r"\s*([1-9][0-9]{0,3})\s*[:x/]\s*([1-9][0-9]{0,3})\s*")
MAX_RATIO = 4.0


class VideoOptions(msgspec.Struct, frozen=True):
    """What a caller may set for a video; `None` means the value of the model's profile."""

    text_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_frames: int | None = None
    seed: int | None = None


class VideoParameters(msgspec.Struct, frozen=True):
    """Everything but image and audio that determines a video; `num_frames` is for each clip."""

    model: str
    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    num_frames: int
    fps: int
    audio_s: float

    @property
    def clip_s(self) -> float:
        """Seconds of one clip."""
        return self.num_frames / self.fps

    @property
    def megapixel_steps(self) -> float:
        """The amount of work: megapixels times steps, over all frames of whole clips."""
        frames = math.ceil(self.audio_s / self.clip_s) * self.num_frames
        return self.width * self.height * self.steps * frames / 1e6

    def request(self, profile: VideoProfile, wav: bytes) -> dict[str, str]:
        """The fields of a request without the model's name and the image; audio is only accepted as a URL."""
        audio_url = "data:audio/wav;base64," + base64.b64encode(wav).decode("ascii")
        fields = {
            "prompt": self.prompt,
            "size": f"{self.width}x{self.height}",
            "num_frames": self.num_frames,
            "fps": self.fps,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
            "audio_reference": {"audio_url": audio_url},
            **extra_fields(profile, self.width * self.height),
        }
        return {
            name: msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)
            for name, value in fields.items()
        }


def resolve_video(
    model: str, profile: VideoProfile, options: VideoOptions, image: tuple[int, int], audio_s: float
) -> tuple[VideoParameters, list[str]]:
    """The complete parameters, with a note for each option that was ignored; `image` is (width, height).

    Raises: `InvalidParameters`.
    """
    notes = []
    width, height = _size(profile, options, image)
    if options.aspect_ratio is not None and (options.width is not None or options.height is not None):
        notes.append(f"width and height were ignored: aspect_ratio {options.aspect_ratio.strip()} is {width}x{height}.")
    if profile.sizes_itself:
        notes.append("This model uses the size in its own table that is nearest to the requested one.")
    parameters = VideoParameters(
        model=model,
        prompt=options.text_prompt or DEFAULT_PROMPT,
        width=width,
        height=height,
        steps=options.num_inference_steps or profile.default_steps,
        guidance_scale=profile.default_guidance_scale if options.guidance_scale is None else options.guidance_scale,
        seed=draw_seed() if options.seed is None else options.seed,
        num_frames=_clip_frames(profile, options.num_frames, audio_s),
        fps=profile.fps,
        audio_s=round(audio_s, 3),
    )
    return parameters, notes


def _clip_frames(profile: VideoProfile, num_frames: int | None, audio_s: float) -> int:
    if num_frames is None:
        if profile.lost_frames is None:
            return profile.clip_frames
        # Clips of equal length end soon after the audio; with full clips the last one may be almost silent.
        frames = audio_s * profile.fps + profile.lost_frames
        clips = math.ceil(frames / profile.clip_frames)
        return max(MIN_CLIP_FRAMES, math.ceil(frames / clips / 4) * 4)
    if num_frames % 4 != profile.frames_over:
        nearest = max(1, round((num_frames - profile.frames_over) / 4)) * 4 + profile.frames_over
        rule = "a multiple of 4" if not profile.frames_over else f"a multiple of 4 and {profile.frames_over} more"
        raise InvalidParameters(
            f"num_frames {num_frames} is not {rule}, as this model's clips are. Nearest is {nearest}."
        )
    return num_frames


def _size(profile: VideoProfile, options: VideoOptions, image: tuple[int, int]) -> tuple[int, int]:
    multiple = profile.multiple
    if options.aspect_ratio is None and options.width is not None and options.height is not None:
        check_size(options.width, options.height, multiple, profile.max_area)
        return options.width, options.height
    if options.aspect_ratio is None and (options.width is not None or options.height is not None):
        raise InvalidParameters("Give both width and height, or neither: then the image's aspect ratio is used.")
    ratio = _ratio(options.aspect_ratio) if options.aspect_ratio is not None else image[0] / image[1]
    ratio = min(max(ratio, 1 / MAX_RATIO), MAX_RATIO)
    area = min(max(image[0] * image[1], profile.min_area), profile.area)
    width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    return max(1, int(width // multiple)) * multiple, max(1, int(height // multiple)) * multiple


def _ratio(text: str) -> float:
    found = _RATIO.fullmatch(text)
    if not found or not 1 / MAX_RATIO <= int(found[1]) / int(found[2]) <= MAX_RATIO:
        raise invalid_ratio(text)
    return int(found[1]) / int(found[2])


def check_size(width: int, height: int, multiple: int, max_area: int) -> None:
    """Raises `InvalidParameters` where a side is not a multiple of `multiple`, or for more than `max_area` pixels."""
    check_multiples(width, height, multiple)
    if width * height > max_area:
        raise InvalidParameters(
            f"{width}x{height} has {width * height} pixels; this model's videos have at most {max_area}. Reduce width "
            "or height."
        )


def invalid_ratio(text: str) -> InvalidParameters:
    """The error for an aspect ratio that is none, or too extreme."""
    return InvalidParameters(
        f"The aspect ratio {text[:20]!r} is invalid: use two numbers such as 16:9, neither more than {MAX_RATIO:g} "
        "times the other."
    )
