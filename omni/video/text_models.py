"""Profiles of the models that make a video from words, or from an image and words.

A model is found by the pipeline class in its files, where they are on this machine, else by its name.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from omni.images.profiles import PROFILES, model_index
from omni.images.shapes import Size

CAPABLE_FROM_TEXT = "Wan-AI/Wan2.2-T2V-A14B-Diffusers, Wan-AI/Wan2.2-TI2V-5B-Diffusers and Lightricks/LTX-2"
CAPABLE_FROM_IMAGE = "Wan-AI/Wan2.2-I2V-A14B-Diffusers, Wan-AI/Wan2.2-TI2V-5B-Diffusers and Lightricks/LTX-2"


class TextVideoProfile(msgspec.Struct, frozen=True):
    """One model. Sizes are (width, height) in pixels.

    Attributes:
        image: whether it takes an image as the first frame; a model that does not may ignore one without an error.
        frame_step: the number of frames is a multiple of this, plus one.
        min_area: in pixels; a smaller input image is enlarged.
        max_area: the maximum, in pixels.
        negative_prompt: what its makers avoid by default.
        fixed: further fields of each request.
        guided: fields that belong to the default guidance; they are left out where the caller sets another one.
    """

    default_steps: int
    default_guidance_scale: float
    fps: int
    num_frames: int
    size: Size
    max_area: int
    image: Literal["no", "optional", "required"] = "no"
    multiple: int = 16
    frame_step: int = 4
    min_area: int = 480 * 832
    negative_prompt: str | None = None
    fixed: dict[str, float] = {}
    guided: dict[str, float] = {}

    @property
    def area(self) -> int:
        """The default number of pixels."""
        return self.size[0] * self.size[1]

    @property
    def from_text(self) -> bool:
        """Whether words are enough."""
        return self.image != "required"

    @property
    def from_image(self) -> bool:
        """Whether it takes an image."""
        return self.image != "no"


# What Wan's makers avoid by default, in the English of diffusers' WanPipeline; their own is the same in Chinese.
_WAN_NEGATIVE = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)

# Wan-Video/Wan2.2, wan/configs/wan_t2v_A14B.py: 40 steps, shift 12, boundary 0.875, guidance 4.0 for the first steps
# (high noise) and 3.0 for the others; 81 frames at 16 a second; 480 × 832 or 720 × 1280. vLLM-Omni's `guidance_scale`
# is the one for the first steps.
WAN_T2V = TextVideoProfile(
    default_steps=40,
    default_guidance_scale=4.0,
    fps=16,
    num_frames=81,
    size=(832, 480),
    max_area=1280 * 720,
    negative_prompt=_WAN_NEGATIVE,
    fixed={"flow_shift": 12.0, "boundary_ratio": 0.875},
    guided={"guidance_scale_2": 3.0},
)
# wan/configs/wan_i2v_A14B.py there: 40 steps, shift 5, boundary 0.9, guidance 3.5 for all steps.
WAN_I2V = msgspec.structs.replace(
    WAN_T2V,
    default_guidance_scale=3.5,
    image="required",
    fixed={"flow_shift": 5.0, "boundary_ratio": 0.9},
    guided={},
)
# wan/configs/wan_ti2v_5B.py there: 50 steps, shift 5, guidance 5.0, 121 frames at 24 a second, 704 × 1280; sides in
# multiples of 32, the autoencoder's 16 times the patches' 2.
WAN_TI2V = msgspec.structs.replace(
    WAN_T2V,
    default_steps=50,
    default_guidance_scale=5.0,
    fps=24,
    num_frames=121,
    size=(1280, 704),
    multiple=32,
    image="optional",
    fixed={"flow_shift": 5.0},
    guided={},
)
# Wan2.1, by the defaults and the example of diffusers' WanPipeline: 50 steps, guidance 5.0, 81 frames at 16 a second,
# 480 × 832, shift 3 for that size.
WAN_21_T2V = msgspec.structs.replace(
    WAN_T2V, default_steps=50, default_guidance_scale=5.0, fixed={"flow_shift": 3.0}, guided={}
)
WAN_21_I2V = msgspec.structs.replace(WAN_21_T2V, image="required")
# HunyuanVideo-1.5, by diffusers' pipelines and vLLM-Omni's: 50 steps, guidance 6.0, 121 frames at 24 a second, 480p.
HUNYUAN_15_T2V = TextVideoProfile(
    default_steps=50, default_guidance_scale=6.0, fps=24, num_frames=121, size=(832, 480), max_area=1280 * 720
)
HUNYUAN_15_I2V = msgspec.structs.replace(HUNYUAN_15_T2V, image="required")
# Lightricks/LTX-2, by vLLM-Omni's recipe of the makers' values: 40 steps, guidance 3.0, 121 frames at 24 a second,
# 512 × 768; 8 frames and 32 pixels per latent. The server adds the makers' negative prompt where there is none.
LTX_2 = TextVideoProfile(
    default_steps=40,
    default_guidance_scale=3.0,
    fps=24,
    num_frames=121,
    size=(768, 512),
    max_area=1920 * 1088,
    image="optional",
    multiple=32,
    frame_step=8,
)

FALLBACK = TextVideoProfile(
    default_steps=40,
    default_guidance_scale=5.0,
    fps=16,
    num_frames=81,
    size=(832, 480),
    max_area=1920 * 1088,
    image="optional",
)
"""For unknown models: the defaults of most pipelines, which also suit models with 8 frames and 32 pixels per latent.
Whether they take an image is not known."""

# The checkpoints that scripts/omni-cpu builds: their weights are random, so they need only what a CPU does in seconds.
_TINY = {"default_steps": 4, "num_frames": 17, "size": (128, 128), "min_area": 128 * 128}
_OWN = {
    "tiny-wan-t2v": msgspec.structs.replace(WAN_T2V, **_TINY),
    "tiny-wan-ti2v": msgspec.structs.replace(WAN_TI2V, **_TINY),
    "tiny-wan-i2v": msgspec.structs.replace(WAN_I2V, **_TINY),
}
_NAMES = (
    (re.compile(r"wan.*ti2v"), WAN_TI2V),
    (re.compile(r"wan[-_]?2[._]?1.*t2v"), WAN_21_T2V),
    (re.compile(r"wan[-_]?2[._]?1.*i2v"), WAN_21_I2V),
    (re.compile(r"wan.*t2v"), WAN_T2V),
    (re.compile(r"wan.*i2v"), WAN_I2V),
    (re.compile(r"hunyuan-?video-?1[._]5.*i2v"), HUNYUAN_15_I2V),
    (re.compile(r"hunyuan-?video-?1[._]5"), HUNYUAN_15_T2V),
    (re.compile(r"ltx-?2(?![.\d]|.*distilled)"), LTX_2),
)
_CLASSES = {
    "WanImageToVideoPipeline": WAN_I2V,
    "HunyuanVideo15Pipeline": HUNYUAN_15_T2V,
    "HunyuanVideo15ImageToVideoPipeline": HUNYUAN_15_I2V,
    "LTX2Pipeline": LTX_2,
}
_VIDEO_CLASS = re.compile(r"Video|^Wan|^LTX|^Helios|^Cosmos|^MiniMaxH3|^Magi")
"""Classes that make videos, with a profile or without."""
_TALKING = re.compile(r"S2V|Avatar", re.IGNORECASE)
_OTHERS = re.compile(
    r"flux|qwen|z-image|stable-diffusion|sdxl|sd3|hunyuan-?image|bagel|omnigen|glm-image|ovis|longcat-image|hidream|"
    r"ernie|nextstep|audio|omnivoice|tts|demo-image"
)
_IMAGES = frozenset(name.casefold().rpartition("/")[2] for name in PROFILES)


def text_video_profile(model: str, root: str | None = None) -> tuple[TextVideoProfile, bool] | None:
    """The profile of a model and whether the model is known; `None` where it certainly makes no video from words.

    Arguments: `model`, the served name; `root`, where the server loaded it from.
    """
    names = [name.casefold().rstrip("/").rpartition("/")[2] for name in (model, root or "")]
    if found := next((_OWN[name] for name in names if name in _OWN), None):
        return found, True
    index = model_index(root or model)
    if name := index.get("_class_name"):
        return _by_class(str(name), index, names)
    if found := _by_name(names):
        return found, True
    if any(name in _IMAGES or _OTHERS.search(name) or _TALKING.search(name) for name in names):
        return None
    return FALLBACK, False


def _by_class(name: str, index: dict[str, Any], names: list[str]) -> tuple[TextVideoProfile, bool] | None:
    if _TALKING.search(name) or not _VIDEO_CLASS.search(name):
        return None
    if name == "WanPipeline":
        if index.get("expand_timesteps"):
            return WAN_TI2V, True
        # Wan2.1 has neither a second transformer nor a boundary between the two.
        return (WAN_21_T2V if index.get("boundary_ratio") is None else WAN_T2V), True
    if name == "WanImageToVideoPipeline" and index.get("boundary_ratio") is None:
        return WAN_21_I2V, True
    named = _by_name(names)
    found = _CLASSES.get(name)
    return (named or found or FALLBACK), found is not None


def _by_name(names: list[str]) -> TextVideoProfile | None:
    return next((profile for pattern, profile in _NAMES if any(map(pattern.search, names))), None)
