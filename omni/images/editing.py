"""What an image is made from besides words: input images, and a mask of what to change.

FLUX.2 klein is the only model of vLLM-Omni 0.30 that uses a mask. It needs the first image and the mask in exactly the
size of the result, so both are brought to it here.
"""

from __future__ import annotations

import io

import msgspec

from omni.errors import InvalidParameters
from omni.images.profiles import Profile
from omni.images.shapes import Size

MAX_MASKED_MP = 1.0
"""In megapixels of 1024 × 1024. FLUX.2 klein reduces a larger input image, and its mask then no longer fits (vLLM-Omni
0.30)."""
MAX_MASKED_IMAGES = 2
"""The image to change, and another one that shows what to put there."""
WHITE_FROM = 128
NOISY_STRENGTH = 0.5
"""FLUX.2 klein in vLLM-Omni 0.30 does not begin a masked edit with the image, and its scheduler counts from the first
step even where steps are left out: from about here down, noise is left."""
_MASK_MODELS = "such as black-forest-labs/FLUX.2-klein-4B"
_STRENGTH_MODELS = (
    "such as black-forest-labs/FLUX.2-klein-4B (with mask_path) or Tongyi-MAI/Z-Image-Turbo (with image_paths)"
)


class Inputs(msgspec.Struct, frozen=True):
    """The input images of an edit.

    Attributes:
        images: PNG files; the first one is edited.
        mask: a PNG file, white where the first image is changed; `None` where all of it is.
        image_paths, mask_path: the files they are from; empty and `None` unless all of them are files of this machine.
    """

    images: list[bytes] = []
    mask: bytes | None = None
    image_paths: list[str] = []
    mask_path: str | None = None


NO_INPUTS = Inputs()


def check_inputs(model: str, profile: Profile, inputs: Inputs, strength: float | None) -> list[str]:
    """Notes about what is not known of the model; nothing that the caller set is ignored in silence.

    Raises: `InvalidParameters` for inputs or a strength that the model does not use; names models that do.
    """
    notes = []
    _check_number(model, profile, len(inputs.images), inputs.mask is not None)
    if profile.needs_mask and inputs.images and inputs.mask is None:
        raise InvalidParameters(
            f"The model {model} edits images only with a mask. Add mask_path, leave image_paths out, or serve a model "
            "that edits images, such as black-forest-labs/FLUX.2-klein-4B."
        )
    if inputs.mask is not None:
        if profile.supports_mask is False:
            raise InvalidParameters(
                f"The model {model} does not use a mask. Leave mask_path out, or serve a model that uses masks, "
                f"{_MASK_MODELS}."
            )
        if profile.supports_mask is None:
            notes.append(_unknown("mask_path", model))
    if strength is not None:
        _check_strength(model, profile, inputs)
        if profile.supports_strength is None:
            notes.append(_unknown("strength", model))
        elif inputs.mask is not None and strength <= NOISY_STRENGTH:
            notes.append(
                "With a mask, vLLM-Omni begins with noise and leaves out the first steps: a low strength leaves noise."
            )
    return notes


def masked(inputs: Inputs, size: Size) -> tuple[Inputs, list[str]]:
    """The first image and its mask in the size of the result, cropped around their centre, with notes.

    Raises: `InvalidParameters` for a mask that keeps everything.
    """
    from PIL import Image
    from PIL.ImageOps import fit

    from omni.images.previews import png_of

    assert inputs.mask is not None
    with Image.open(io.BytesIO(inputs.images[0])) as image, Image.open(io.BytesIO(inputs.mask)) as mask:
        grey = mask.convert("L").resize(image.size)
        fitted = fit(image, size)
        black_and_white = fit(grey, size).point(lambda value: 255 * (value >= WHITE_FROM))
        cropped = _is_cropped(image.size, size)
    darkest, lightest = black_and_white.getextrema()
    if not lightest:
        raise InvalidParameters(
            "mask_path: the mask has no white, so nothing would change. White is what is changed, black what is kept."
        )
    notes = ["The mask is white all over: the whole image is changed."] if darkest else []
    if cropped:
        notes.append(f"The first image and its mask were cropped to the shape of {size[0]}x{size[1]}.")
    images = [png_of(fitted), *inputs.images[1:]]
    return msgspec.structs.replace(inputs, images=images, mask=png_of(black_and_white)), notes


def _is_cropped(image: Size, size: Size) -> bool:
    """Whether more is lost at a side than rounding to the model's multiples takes."""
    return not 0.9 < (image[0] / image[1]) / (size[0] / size[1]) < 1.1


def _check_number(model: str, profile: Profile, n_images: int, has_mask: bool) -> None:
    maximum = profile.max_reference_images
    if has_mask and not n_images:
        raise InvalidParameters("mask_path needs image_paths: the first of them is the image that the mask belongs to.")
    if maximum == 0 and n_images:
        raise InvalidParameters(
            f"The model {model} cannot edit images. Leave image_paths out, or serve a model that edits images, such "
            "as black-forest-labs/FLUX.2-klein-4B."
        )
    if maximum is not None and n_images > maximum:
        images = "one image" if maximum == 1 else f"{maximum} images"
        raise InvalidParameters(f"The model {model} accepts at most {images} in image_paths.")
    if has_mask and n_images > MAX_MASKED_IMAGES:
        raise InvalidParameters(
            f"With mask_path, at most {MAX_MASKED_IMAGES} images fit in image_paths: the one to change, and another "
            "one that shows what to put there."
        )


def _check_strength(model: str, profile: Profile, inputs: Inputs) -> None:
    if profile.supports_strength == "never":
        raise InvalidParameters(
            f"The model {model} does not use strength. Leave it out, or serve a model that uses it, {_STRENGTH_MODELS}."
        )
    if not inputs.images:
        raise InvalidParameters("strength needs image_paths: it is how much of the image is changed.")
    if profile.supports_strength == "with_mask" and inputs.mask is None:
        raise InvalidParameters(
            f"The model {model} uses strength only together with mask_path. Add a mask, leave strength out, or serve "
            "a model that uses it without, such as Tongyi-MAI/Z-Image-Turbo."
        )


def _unknown(argument: str, model: str) -> str:
    return (
        f"Whether the model {model} uses {argument} is not known: the server takes it without saying. Compare the "
        "result, or set that in the model's profile (OMNI_PROFILES)."
    )
