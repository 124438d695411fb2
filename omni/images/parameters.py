"""Resolves the parameters of an image from the call, the model's profile and the fallback, in this order.

Sizes are checked here, because servers round some invalid sizes silently.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from omni.errors import InvalidParameters
from omni.files.metadata import png_size
from omni.images.editing import MAX_MASKED_MP, NO_INPUTS, Inputs
from omni.images.profiles import Profile
from omni.images.shapes import MAX_RATIO, Size, following, of_ratio, ratio_of

MAX_SEED = 2**32 - 1
"""Random seeds are below 2³², as vLLM-Omni's are: every generator accepts them."""
MAX_GIVEN_SEED = 2**63 - 1
"""The largest seed that callers may give."""
_NOTED_SHARE = 0.8
"""An edit that keeps a smaller share of the pixels than this adds a note."""


class ImageOptions(msgspec.Struct, frozen=True):
    """What a caller may set for an image; `None` means the value of the model's profile."""

    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    strength: float | None = None
    lora: str | None = None


class ImageParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that determines an image, as results and files contain it: the same parameters make it again.

    Attributes: `mask` is whether the edit had one; `image_paths` and `mask_path` are the files of its inputs, left out
    unless all of them are files of this machine; `lora` is the name of an adapter.
    """

    model: str
    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    negative_prompt: str | None = None
    reference_images: int = 0
    strength: float | None = None
    mask: bool = False
    image_paths: list[str] = []
    mask_path: str | None = None
    lora: str | None = None

    @property
    def megapixel_steps(self) -> float:
        """The amount of work: megapixels times steps."""
        return self.width * self.height * self.steps / 1e6

    def request(self, profile: Profile) -> dict[str, Any]:
        """The fields of a request to vLLM-Omni's images API, without the model's name.

        Steps, guidance, size and seed are always set: the server's defaults (50 steps, guidance 1.0) do not fit every
        model.
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
        if self.strength is not None:
            fields["strength"] = self.strength
        return fields


def resolve(
    model: str,
    profile: Profile,
    prompt: str,
    options: ImageOptions,
    inputs: Inputs = NO_INPUTS,
) -> tuple[ImageParameters, list[str]]:
    """The complete parameters, with a note for each option that was ignored.

    The size of the first input image is the default size of the result.

    Raises: `InvalidParameters` for a size or a ratio that the model does not support.
    """
    notes = []
    shape = png_size(inputs.images[0]) if inputs.images else None
    negative_prompt = options.negative_prompt or None
    if negative_prompt is not None and not profile.supports_negative_prompt:
        negative_prompt = None
        notes.append("negative_prompt was ignored: this model does not support negative prompts.")
    has_no_size = (options.aspect_ratio, options.width, options.height) == (None, None, None)
    if inputs.mask is not None and has_no_size:
        profile = msgspec.structs.replace(profile, max_resolution_mp=min(profile.max_resolution_mp, MAX_MASKED_MP))
    width, height = _size(profile, options, shape)
    if inputs.mask is not None and width * height > MAX_MASKED_MP * 1024 * 1024:
        raise InvalidParameters(
            f"{width}x{height} has {width * height} pixels; an edit with mask_path has at most "
            f"{int(MAX_MASKED_MP * 1024 * 1024)}. Reduce width and height."
        )
    if has_no_size and shape is not None and width * height < shape[0] * shape[1] * _NOTED_SHARE:
        what = "this model's images" if inputs.mask is None else "edits with mask_path"
        notes.append(
            f"The image of {shape[0]}x{shape[1]} is edited as {width}x{height}: {what} have at most "
            f"{profile.max_pixels} pixels."
        )
    if options.aspect_ratio is not None and (options.width is not None or options.height is not None):
        notes.append(f"width and height were ignored: aspect_ratio {options.aspect_ratio} is {width}x{height}.")
    parameters = ImageParameters(
        model=model,
        prompt=prompt,
        width=width,
        height=height,
        steps=options.num_inference_steps or profile.default_steps,
        guidance_scale=profile.default_guidance_scale if options.guidance_scale is None else options.guidance_scale,
        seed=draw_seed() if options.seed is None else options.seed,
        negative_prompt=negative_prompt,
        reference_images=len(inputs.images),
        strength=options.strength,
        mask=inputs.mask is not None,
        image_paths=inputs.image_paths,
        mask_path=inputs.mask_path,
        lora=options.lora,
    )
    return parameters, notes


_OF_EACH_IMAGE = ("prompt", "seed")


def common_parameters(images: Sequence[ImageParameters]) -> dict[str, Any]:
    """The parameters that all images of a batch have in common, without those that each entry of a result has."""
    first, *others = (msgspec.to_builtins(parameters) for parameters in images)
    return {
        name: value
        for name, value in first.items()
        if name not in _OF_EACH_IMAGE and all(other.get(name) == value for other in others)
    }


def draw_seed() -> int:
    """A random seed: chosen here, because servers do not report the seed they used."""
    return secrets.randbelow(MAX_SEED + 1)


def check_multiples(width: int, height: int, multiple: int) -> None:
    """Raises `InvalidParameters` where a side is not a multiple of `multiple`."""
    for name, side in (("Width", width), ("Height", height)):
        if side % multiple:
            nearest = max(1, round(side / multiple)) * multiple
            raise InvalidParameters(
                f"{name} {side} is not a multiple of {multiple}. Nearest valid {name.lower()} is {nearest}."
            )


def _size(profile: Profile, options: ImageOptions, shape: Size | None) -> Size:
    if options.aspect_ratio is not None:
        return _size_of_ratio(profile, options.aspect_ratio)
    width, height = _sides(profile, options, shape)
    check_multiples(width, height, profile.resolution_multiple)
    if width * height > profile.max_pixels:
        raise InvalidParameters(
            f"{width}x{height} has {width * height} pixels; this model's images have at most {profile.max_pixels} "
            f"({profile.max_resolution_mp:g} megapixels). Reduce width or height."
        )
    return width, height


def _sides(profile: Profile, options: ImageOptions, shape: Size | None) -> Size:
    """Width and height; missing ones follow the image to edit, or the profile."""
    width, height = options.width, options.height
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
        sizes = ", ".join(f"{name} ({width}x{height})" for name, (width, height) in known.items())
        raise InvalidParameters(
            f"The aspect ratio {text[:20]!r} is not one of this model's: {sizes}. Use width and height for other sizes."
        )
    if ratio is None:
        raise InvalidParameters(
            f"The aspect ratio {text[:20]!r} is invalid: use two numbers such as 16:9, neither more than "
            f"{MAX_RATIO:g} times the other."
        )
    return of_ratio(ratio, profile.default_pixels, profile.resolution_multiple)
