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

MAX_SEED = 2**32 - 1
"""Seeds drawn here stay below 2³², as vLLM-Omni's own do: every generator takes those."""


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
    model: str, profile: Profile, prompt: str, wishes: Wishes, *, reference_images: int = 0
) -> tuple[ImageParameters, list[str]]:
    """The complete parameters, with a note on each wish that could not be followed.

    Raises: `InvalidParameters` for a size or a ratio that the model cannot do.
    """
    notes = []
    negative_prompt = wishes.negative_prompt or None
    if negative_prompt is not None and not profile.supports_negative_prompt:
        negative_prompt = None
        notes.append("negative_prompt was ignored: this model does not support negative prompts.")
    width, height = _size(profile, wishes)
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


def _size(profile: Profile, wishes: Wishes) -> tuple[int, int]:
    if wishes.aspect_ratio is not None:
        size = profile.supported_aspect_ratios.get(wishes.aspect_ratio.replace(" ", ""))
        if size is None:
            known = ", ".join(f"{ratio} ({w}x{h})" for ratio, (w, h) in profile.supported_aspect_ratios.items())
            raise InvalidParameters(
                f"The aspect ratio {wishes.aspect_ratio[:20]!r} is not one of this model's: {known}. "
                "Other sizes are given by width and height."
            )
        return size
    default_width, default_height = profile.default_resolution
    width = default_width if wishes.width is None else wishes.width
    height = default_height if wishes.height is None else wishes.height
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
