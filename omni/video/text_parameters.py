"""Resolves the parameters of a video from words from the call, the model's profile and the image's size."""

from __future__ import annotations

import math

import msgspec

from omni.errors import InvalidParameters
from omni.images.parameters import draw_seed
from omni.images.shapes import Size, of_ratio, ratio_of
from omni.video.parameters import MAX_RATIO, check_size, invalid_ratio
from omni.video.text_models import TextVideoProfile

MAX_FRAMES = 481
"""20 seconds at 24 frames a second and one more: the longest that any of the models was made for (LTX-2)."""
_SAME_RATIO = 0.04
"""A ratio that differs less than this from that of the model's own size means that size."""


class TextVideoOptions(msgspec.Struct, frozen=True):
    """What a caller may set; `None` means the value of the model's profile."""

    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None
    num_frames: int | None = None
    duration_s: float | None = None
    fps: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None


class TextVideoParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything but the image that determines a video; `model_fields` are fields that only some models have."""

    model: str
    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    num_frames: int
    fps: int
    negative_prompt: str | None = None
    reference_images: int = 0
    model_fields: dict[str, float] = {}

    @property
    def megapixel_steps(self) -> float:
        """The amount of work: megapixels times steps, over all frames."""
        return self.width * self.height * self.steps * self.num_frames / 1e6

    def request(self) -> dict[str, str]:
        """The fields of a request without the model's name and the image.

        Everything is always set: a server makes 960 × 960 pixels and 50 steps of a request that says nothing.
        """
        fields = {
            "prompt": self.prompt,
            "size": f"{self.width}x{self.height}",
            "num_frames": self.num_frames,
            "fps": self.fps,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
            **self.model_fields,
            **({} if self.negative_prompt is None else {"negative_prompt": self.negative_prompt}),
        }
        return {name: str(value) for name, value in fields.items()}


def resolve_text_video(
    model: str, profile: TextVideoProfile, prompt: str, options: TextVideoOptions, image: Size | None
) -> tuple[TextVideoParameters, list[str]]:
    """The complete parameters, with a note for each option that was ignored.

    `image` is the size of the image that the video begins with.

    Raises: `InvalidParameters`.
    """
    notes = []
    width, height = _size(profile, options, image)
    if options.aspect_ratio is not None and (options.width is not None or options.height is not None):
        notes.append(f"width and height were ignored: aspect_ratio {options.aspect_ratio.strip()} is {width}x{height}.")
    has_default_guidance = options.guidance_scale is None
    negative_prompt = profile.negative_prompt if options.negative_prompt is None else options.negative_prompt
    fps = options.fps or profile.fps
    parameters = TextVideoParameters(
        model=model,
        prompt=prompt,
        width=width,
        height=height,
        steps=options.num_inference_steps or profile.default_steps,
        guidance_scale=profile.default_guidance_scale if options.guidance_scale is None else options.guidance_scale,
        seed=draw_seed() if options.seed is None else options.seed,
        num_frames=_frames(profile, options, fps),
        fps=fps,
        negative_prompt=negative_prompt or None,
        reference_images=0 if image is None else 1,
        model_fields={**profile.fixed, **(profile.guided if has_default_guidance else {})},
    )
    return parameters, notes


def _frames(profile: TextVideoProfile, options: TextVideoOptions, fps: int) -> int:
    step = profile.frame_step
    if options.num_frames is not None and options.duration_s is not None:
        raise InvalidParameters("Give num_frames or duration_s, not both.")
    if options.duration_s is not None:
        frames = max(1, round(options.duration_s * fps / step)) * step + 1
        if frames > MAX_FRAMES:
            raise InvalidParameters(
                f"duration_s {options.duration_s:g} at {fps} frames a second is {frames} frames; a video has at most "
                f"{MAX_FRAMES}. Reduce duration_s to {MAX_FRAMES // fps} or less, or fps."
            )
        return frames
    if options.num_frames is None:
        return profile.num_frames
    if (options.num_frames - 1) % step:
        nearest = max(1, round((options.num_frames - 1) / step)) * step + 1
        raise InvalidParameters(
            f"num_frames {options.num_frames} is not a multiple of {step} and 1 more, as this model's videos are. "
            f"Nearest is {nearest}."
        )
    return options.num_frames


def _size(profile: TextVideoProfile, options: TextVideoOptions, image: Size | None) -> Size:
    if options.aspect_ratio is not None:
        ratio = ratio_of(options.aspect_ratio)
        if ratio is None or not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
            raise invalid_ratio(options.aspect_ratio)
        return _of_ratio(profile, ratio)
    if options.width is not None and options.height is not None:
        check_size(options.width, options.height, profile.multiple, profile.max_area)
        return options.width, options.height
    if options.width is not None or options.height is not None:
        raise InvalidParameters("Give both width and height, or neither: then the image's or the model's size is used.")
    if image is None:
        return profile.size
    ratio = min(max(image[0] / image[1], 1 / MAX_RATIO), MAX_RATIO)
    area = min(max(image[0] * image[1], profile.min_area), profile.area)
    return of_ratio(ratio, area, profile.multiple)


def _of_ratio(profile: TextVideoProfile, ratio: float) -> Size:
    width, height = profile.size
    for own in ((width, height), (height, width)):
        if abs(math.log(own[0] / own[1] / ratio)) <= _SAME_RATIO:
            return own
    return of_ratio(ratio, profile.area, profile.multiple)
