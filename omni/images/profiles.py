"""Profiles of image models: published parameters, sizes, and limits.

A profile is found by the served name of the model, or by the last part of it, since a model may be served from a
folder. Other models get the fallback; where their files are on this machine, the pipeline class in them still decides
the name of the guidance parameter.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from omni.errors import InvalidParameters
from omni.images.shapes import COMMON, of_ratio, ratio_of

Side = Annotated[int, Meta(ge=16, le=16_384)]
Size = tuple[Side, Side]
MAX_FILE_BYTES = 1_000_000


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model. Sizes are (width, height) in pixels.

    Attributes:
        guidance_parameter: the pipeline's name for classifier-free guidance; `true_cfg_scale` only works together with
            a negative prompt (`needs_negative_prompt`).
        max_resolution_mp: in megapixels of 1024 × 1024.
        estimated_vram_gb: GPU memory in GB.
        max_reference_images: 0 where the model cannot edit, `None` where that is not known.
        supports_mask: whether an edit may have a mask, `None` where that is not known.
        needs_mask: whether it edits images only with a mask.
        supports_strength: with which inputs the strength of an edit counts, `None` where that is not known.
        supported_aspect_ratios: where empty, any ratio is computed from the pixels of the default resolution.
    """

    type: Literal["distilled", "standard", "unknown"] = "unknown"
    default_steps: Annotated[int, Meta(ge=1, le=200)] = 28
    default_guidance_scale: Annotated[float, Meta(ge=0, le=20)] = 5.0
    guidance_parameter: Literal["guidance_scale", "true_cfg_scale"] = "guidance_scale"
    supports_negative_prompt: bool = True
    needs_negative_prompt: bool = False
    default_resolution: Size = (1024, 1024)
    max_resolution_mp: Annotated[float, Meta(gt=0, le=256)] = 4.0
    resolution_multiple: Annotated[int, Meta(ge=1, le=256)] = 16
    estimated_vram_gb: Annotated[float, Meta(gt=0)] | None = None
    max_reference_images: Annotated[int, Meta(ge=0, le=16)] | None = None
    supports_mask: bool | None = None
    needs_mask: bool = False
    supports_strength: Literal["never", "with_mask", "with_image"] | None = None
    supported_aspect_ratios: dict[str, Size] = {}

    @property
    def max_pixels(self) -> int:
        """The maximum number of pixels of an image."""
        return int(self.max_resolution_mp * 1024 * 1024)

    @property
    def default_pixels(self) -> int:
        """The number of pixels of the default resolution, `max_pixels` at most."""
        return min(self.default_resolution[0] * self.default_resolution[1], self.max_pixels)

    @property
    def aspect_ratios(self) -> dict[str, Size]:
        """The model's own aspect ratios with their sizes, or the common ones with computed sizes."""
        if self.supported_aspect_ratios:
            return self.supported_aspect_ratios
        ratios = {name: ratio for name in COMMON if (ratio := ratio_of(name)) is not None}
        return {name: of_ratio(ratio, self.default_pixels, self.resolution_multiple) for name, ratio in ratios.items()}


FALLBACK = Profile()
"""For unknown models: values that suit most models that are not distilled."""

# Steps and guidance: the cards of black-forest-labs/FLUX.2-klein-4B and -9B (4 steps, guidance 1.0: distilled; a
# higher guidance adds a second pass, for which the model was not trained). Sizes in steps of 16: the latent grid
# of 8 and its patches of 2. Memory: 13 GB is the 4B card's figure with offloading, 29 GB is for the 9B in bfloat16.
_KLEIN = Profile(
    type="distilled",
    default_steps=4,
    default_guidance_scale=1.0,
    supports_negative_prompt=False,
    estimated_vram_gb=13,
    max_reference_images=4,
    supports_mask=True,
    supports_strength="with_mask",
    supported_aspect_ratios={
        "1:1": (1024, 1024),
        "16:9": (1024, 576),
        "9:16": (576, 1024),
        "4:3": (1024, 768),
        "3:4": (768, 1024),
    },
)

# The cards of Qwen/Qwen-Image and Qwen/Qwen-Image-2512: 50 steps, true_cfg_scale 4.0 with " " as the negative prompt
# where there is none, and these sizes. Memory: 20 B parameters of the transformer in bfloat16, about half in FP8.
_QWEN_2512 = Profile(
    type="standard",
    default_steps=50,
    default_guidance_scale=4.0,
    guidance_parameter="true_cfg_scale",
    needs_negative_prompt=True,
    default_resolution=(1328, 1328),
    estimated_vram_gb=40,
    max_reference_images=0,
    supports_mask=False,
    supports_strength="never",
    supported_aspect_ratios={
        "1:1": (1328, 1328),
        "16:9": (1664, 928),
        "9:16": (928, 1664),
        "4:3": (1472, 1104),
        "3:4": (1104, 1472),
        "3:2": (1584, 1056),
        "2:3": (1056, 1584),
    },
)
# Here the card has 1472 × 1140 for 4:3, which the pipeline rounds down to a multiple of 16.
_QWEN = msgspec.structs.replace(
    _QWEN_2512, supported_aspect_ratios={**_QWEN_2512.supported_aspect_ratios, "4:3": (1472, 1136), "3:4": (1136, 1472)}
)

# The card of Tongyi-MAI/Z-Image-Turbo: 9 steps (8 evaluations), guidance 0.0: distilled, so without negative prompts;
# "fits within 16 GB". Sizes: those its makers' demonstration offers at 1024.
_Z_IMAGE_TURBO = Profile(
    type="distilled",
    default_steps=9,
    default_guidance_scale=0.0,
    supports_negative_prompt=False,
    estimated_vram_gb=16,
    max_reference_images=1,
    supports_mask=False,
    supports_strength="with_image",
    supported_aspect_ratios={
        "1:1": (1024, 1024),
        "16:9": (1280, 720),
        "9:16": (720, 1280),
        "4:3": (1152, 864),
        "3:4": (864, 1152),
        "3:2": (1248, 832),
        "2:3": (832, 1248),
    },
)

# The bundled model, see models/demo-image/README.md: trained at these sizes and for 4 steps, from words alone. It
# does not understand input images, but a mask keeps what is outside of it.
_DEMO = Profile(
    type="distilled",
    default_steps=4,
    default_guidance_scale=1.0,
    supports_negative_prompt=False,
    default_resolution=(128, 128),
    max_resolution_mp=1 / 16,
    max_reference_images=1,
    supports_mask=True,
    needs_mask=True,
    supports_strength="with_mask",
    supported_aspect_ratios={"1:1": (128, 128), "3:2": (192, 128), "2:3": (128, 192)},
)

PROFILES: Mapping[str, Profile] = {
    "black-forest-labs/FLUX.2-klein-4B": _KLEIN,
    "black-forest-labs/FLUX.2-klein-9B": msgspec.structs.replace(_KLEIN, estimated_vram_gb=29),
    "Qwen/Qwen-Image-2512": _QWEN_2512,
    "Qwen/Qwen-Image": _QWEN,
    "Tongyi-MAI/Z-Image-Turbo": _Z_IMAGE_TURBO,
    "demo-image": _DEMO,
}

FAMILIES: Mapping[str, dict[str, Any]] = {
    "Flux2KleinPipeline": {
        "supports_negative_prompt": False,
        "max_reference_images": 4,
        "supports_mask": True,
        "supports_strength": "with_mask",
    },
    "QwenImagePipeline": {
        "guidance_parameter": "true_cfg_scale",
        "needs_negative_prompt": True,
        "max_reference_images": 0,
        "supports_mask": False,
        "supports_strength": "never",
    },
    "ZImagePipeline": {"max_reference_images": 1, "supports_mask": False, "supports_strength": "with_image"},
}
"""What the pipeline class in `model_index.json` says about a model."""


class ProfileBook:
    """The built-in profiles, and those of a file, which override them.

    Arguments:
        path: a JSON or TOML file that maps names of models to fields of `Profile`. Missing fields keep the built-in
            value, or for a new model the value of the fallback.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._profiles: dict[str, Profile] | None = None

    def find(self, model: str, root: str | None = None) -> tuple[Profile, bool]:
        """The profile of a model, and whether it is the model's own; `root` is where the server loaded it from.

        Raises: `InvalidParameters` where the file of profiles is invalid.
        """
        profiles = self._all()
        for name in (model, root):
            found = profiles.get(_key(name)) or profiles.get(_last_part(name)) if name else None
            if found is not None:
                return found, True
        return msgspec.structs.replace(FALLBACK, **FAMILIES.get(pipeline_class(root or model), {})), False

    def _all(self) -> dict[str, Profile]:
        if self._profiles is None:
            profiles = {**PROFILES, **(_read(self._path) if self._path else {})}
            by_last_part = {_last_part(name): profile for name, profile in profiles.items()}
            self._profiles = {**by_last_part, **{_key(name): profile for name, profile in profiles.items()}}
        return self._profiles


def _key(name: str) -> str:
    return name.casefold().rstrip("/")


def _last_part(name: str) -> str:
    return _key(name).rpartition("/")[2]


def _read(path: str) -> dict[str, Profile]:
    """The profiles of a file, merged with the built-in ones."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES)
        rows = tomllib.loads(data.decode()) if path.endswith(".toml") else msgspec.json.decode(data)
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be read") from None
    except (ValueError, RecursionError):
        raise _unusable(path, "it is neither JSON nor, with the ending .toml, TOML") from None
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise _unusable(path, "it must map names of models to the fields of their profiles")
    known = {_key(name): profile for name, profile in PROFILES.items()}
    profiles = {}
    for name, row in rows.items():
        fields = {**msgspec.to_builtins(known.get(_key(name), FALLBACK)), **row}
        try:
            profiles[name] = msgspec.convert(fields, Profile)
        except msgspec.ValidationError as error:
            raise _unusable(path, f"{name}: {str(error).replace('`', '')}") from None
    return profiles


def _unusable(path: str, why: str) -> InvalidParameters:
    return InvalidParameters(f"The file {path} in OMNI_PROFILES cannot be used: {why}.")


def pipeline_class(folder: str) -> str:
    """The pipeline class in a model's files; "" where they are not on this machine."""
    found = model_index(folder).get("_class_name")
    return found if isinstance(found, str) else ""


def model_index(folder: str) -> dict[str, Any]:
    """The `model_index.json` in a model's files; empty where they are not on this machine."""
    try:
        with open(os.path.join(folder, "model_index.json"), "rb") as file:
            index = msgspec.json.decode(file.read(MAX_FILE_BYTES))
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}
