"""What a caller asks for, what the model's profile says and what is left to chance become one complete request.

The first that says something wins: the call, the profile, the fallback. Sizes are checked here, since servers round
some wrong ones silently.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from omni.errors import InvalidParameters
from omni.profiles import Profile
from omni.shapes import MAX_RATIO, Size, following, of_ratio, ratio_of

MAX_SEED = 2**32 - 1
"""Seeds drawn here stay below 2³², as vLLM-Omni's own do: every generator takes those."""
_NOTED_SHARE = 0.8
"""An image that an edit leaves fewer of its pixels than this is worth a note; rounding its sides is not."""


class Wishes(msgspec.Struct, frozen=True):
    """What a caller may say about one picture; None is left to the model's profile."""

    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None


class ImageParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that decides how a picture looks, as results and files tell it: made again, it is the same picture."""

    model: str
    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    negative_prompt: str | None = None
    reference_images: int = 0

    @property
    def megapixel_steps(self) -> float:
        """How much work it is: millions of pixels times steps."""
        return self.width * self.height * self.steps / 1e6

    def request(self, profile: Profile) -> dict[str, Any]:
        """The fields of vLLM-Omni's images API beside the model's name.

        Steps, guidance, size and seed are always among them: what the server would do without is not what the model's
        makers mean (50 steps for every model, guidance 1.0).
        """
        fields: dict[str, Any] = {
            "prompt": self.prompt,
            "n": 1,
            "size": f"{self.width}x{self.height}",
            "num_inference_steps": self.steps,
            profile.guidance_parameter: self.guidance_scale,
            "seed": self.seed,
            "response_format": "b64_json",
            "output_format": "png",
        }
        negative_prompt = self.negative_prompt or (" " if profile.needs_negative_prompt else None)
        if negative_prompt is not None:
            fields["negative_prompt"] = negative_prompt
        return fields


def resolve(
    model: str, profile: Profile, prompt: str, wishes: Wishes, *, reference_images: int = 0, shape: Size | None = None
) -> tuple[ImageParameters, list[str]]:
    """The complete parameters, with a note on each wish that could not be followed.

    `shape` is the size of the image to begin from: where the call says nothing else, the result has the same.

    Raises: `InvalidParameters` for a size or a ratio that the model cannot do.
    """
    notes = []
    negative_prompt = wishes.negative_prompt or None
    if negative_prompt is not None and not profile.supports_negative_prompt:
        negative_prompt = None
        notes.append("negative_prompt was ignored: this model does not support negative prompts.")
    width, height = _size(profile, wishes, shape)
    says_nothing = (wishes.aspect_ratio, wishes.width, wishes.height) == (None, None, None)
    if says_nothing and shape is not None and width * height < shape[0] * shape[1] * _NOTED_SHARE:
        notes.append(
            f"The image of {shape[0]}x{shape[1]} is edited as {width}x{height}: this model's images have at most "
            f"{profile.max_pixels} pixels."
        )
    if wishes.aspect_ratio is not None and (wishes.width is not None or wishes.height is not None):
        notes.append(f"width and height were ignored: aspect_ratio {wishes.aspect_ratio} is {width}x{height}.")
    parameters = ImageParameters(
        model=model,
        prompt=prompt,
        width=width,
        height=height,
        steps=wishes.num_inference_steps or profile.default_steps,
        guidance_scale=profile.default_guidance_scale if wishes.guidance_scale is None else wishes.guidance_scale,
        seed=draw_seed() if wishes.seed is None else wishes.seed,
        negative_prompt=negative_prompt,
        reference_images=reference_images,
    )
    return parameters, notes


def draw_seed() -> int:
    """A new seed: chosen here, because servers do not tell which one they took."""
    return secrets.randbelow(MAX_SEED + 1)


def _size(profile: Profile, wishes: Wishes, shape: Size | None) -> Size:
    if wishes.aspect_ratio is not None:
        return _size_of_ratio(profile, wishes.aspect_ratio)
    width, height = _sides(profile, wishes, shape)
    multiple = profile.resolution_multiple
    for name, side in (("Width", width), ("Height", height)):
        if side % multiple:
            nearest = max(1, round(side / multiple)) * multiple
            raise InvalidParameters(
                f"{name} {side} is not a multiple of {multiple}. Nearest valid {name.lower()} is {nearest}."
            )
    if width * height > profile.max_pixels:
        raise InvalidParameters(
            f"{width}x{height} has {width * height} pixels; this model's pictures have at most {profile.max_pixels} "
            f"({profile.max_resolution_mp:g} megapixels). Reduce width or height."
        )
    return width, height


def _sides(profile: Profile, wishes: Wishes, shape: Size | None) -> Size:
    """Width and height where the call leaves out one or both: those of the image to begin from, else the model's."""
    width, height = wishes.width, wishes.height
    if shape is None:
        default_width, default_height = profile.default_resolution
        return default_width if width is None else width, default_height if height is None else height
    multiple = profile.resolution_multiple
    if width is None and height is None:
        return following(shape, multiple, profile.max_pixels)
    if width is None:
        assert height is not None
        return max(1, round(height * shape[0] / shape[1] / multiple)) * multiple, height
    if height is None:
        return width, max(1, round(width * shape[1] / shape[0] / multiple)) * multiple
    return width, height


def _size_of_ratio(profile: Profile, text: str) -> Size:
    known, ratio = profile.aspect_ratios, ratio_of(text)
    for name, size in known.items():
        if name == text.replace(" ", "") or (ratio is not None and ratio_of(name) == ratio):
            return size
    if profile.supported_aspect_ratios:
        told = ", ".join(f"{name} ({width}x{height})" for name, (width, height) in known.items())
        raise InvalidParameters(
            f"The aspect ratio {text[:20]!r} is not one of this model's: {told}. Other sizes are given by width and "
            "height."
        )
    if ratio is None:
        raise InvalidParameters(
            f"The aspect ratio {text[:20]!r} is none: two numbers such as 16:9 are expected, neither more than "
            f"{MAX_RATIO:g} times the other."
        )
    return of_ratio(ratio, profile.default_pixels, profile.resolution_multiple)
