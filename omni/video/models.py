"""Profiles of the models that make a video from an image and audio."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from omni.images.profiles import PROFILES, pipeline_class

CAPABLE = "Wan-AI/Wan2.2-S2V-14B and meituan-longcat/LongCat-Video-Avatar"


class VideoProfile(msgspec.Struct, frozen=True):
    """One model. A video consists of as many clips as the audio needs.

    Attributes:
        clip_frames: the maximum number of frames of a clip.
        frames_over: the number of frames of a clip is a multiple of 4, plus this.
        min_area: in pixels; a smaller image is enlarged.
        area: the default, in pixels.
        max_area: the maximum, in pixels.
    """

    kind: Literal["wan-s2v", "longcat-avatar"]
    default_steps: int
    default_guidance_scale: float
    fps: int
    clip_frames: int
    frames_over: int
    min_area: int
    area: int
    max_area: int
    multiple: int = 16
    sizes_itself: bool = False
    """Whether the model chooses the nearest size from its own table."""
    lost_frames: int | None = None
    """How many frames all clips together lose, where the video ends with a whole clip; `None` where the model cuts the
    video to the length of the audio."""


# Wan-AI/Wan2.2-S2V-14B: 40 steps, guidance 4.5, 80 frames a clip at 16 a second (its generate.py and vLLM-Omni's
# pipeline); 480p and 720p, by default the area of 1024 × 704 in the image's own shape. vLLM-Omni: sides in multiples
# of 16, at most 720 × 1280.
WAN_S2V = VideoProfile(
    kind="wan-s2v",
    default_steps=40,
    default_guidance_scale=4.5,
    fps=16,
    clip_frames=80,
    frames_over=0,
    min_area=480 * 832,
    area=1024 * 704,
    max_area=720 * 1280,
    lost_frames=3,
)
# meituan-longcat/LongCat-Video-Avatar: 50 steps, both guidances 4.0, 93 frames a clip at 25 a second, of which 13
# repeat the clip before (vLLM-Omni's pipeline; a server with the distilled weights takes 8 steps and 1.0 whatever is
# asked). 480p or 720p, in the shape out of a table that is nearest to the image's.
LONGCAT_AVATAR = VideoProfile(
    kind="longcat-avatar",
    default_steps=50,
    default_guidance_scale=4.0,
    fps=25,
    clip_frames=93,
    frames_over=1,
    min_area=480 * 832,
    area=480 * 832,
    max_area=768 * 1280,
    sizes_itself=True,
)

# The checkpoint that scripts/omni-cpu --video builds: its weights are random, so it needs only what a CPU does in
# seconds.
TINY_WAN_S2V = msgspec.structs.replace(WAN_S2V, default_steps=4, min_area=128 * 128, area=128 * 128)

_OWN = {"tiny-wan-s2v": TINY_WAN_S2V}
_CLASSES = {"WanS2VPipeline": WAN_S2V, "LongCatVideoAvatarPipeline": LONGCAT_AVATAR}
_NAMES = ((re.compile(r"wan.*s2v"), WAN_S2V), (re.compile(r"longcat.*avatar"), LONGCAT_AVATAR))
_OTHERS = re.compile(
    r"flux|qwen|z-image|stable-diffusion|sdxl|sd3|hunyuan|ltx|cosmos|helios|lingbot|sana|minimax|bagel|t2v|i2v|vace|"
    r"omnigen|glm-image|ovis|longcat-image|hidream|ernie|nextstep|audio|omnivoice|demo-image"
)
_IMAGES = frozenset(name.casefold().rpartition("/")[2] for name in PROFILES)


def talking_profile(model: str, root: str | None = None) -> VideoProfile | None:
    """The profile of a model that makes talking videos; `None` where the model certainly makes something else.

    An unknown model gets the profile of Wan2.2-S2V, whose requests need no special fields; see `is_known`.
    """
    names = [name.casefold().rstrip("/").rpartition("/")[2] for name in (model, root or "")]
    if found := next((_OWN[name] for name in names if name in _OWN), None):
        return found
    if found := _CLASSES.get(pipeline_class(root or model)):
        return found
    if pipeline_class(root or model):
        return None
    for pattern, profile in _NAMES:
        if any(map(pattern.search, names)):
            return profile
    if any(name in _IMAGES or _OTHERS.search(name) for name in names):
        return None
    return WAN_S2V


def is_known(model: str, root: str | None = None) -> bool:
    """Whether a model is known to make talking videos."""
    name = (root or model).casefold()
    return pipeline_class(root or model) in _CLASSES or any(pattern.search(name) for pattern, _ in _NAMES)


def extra_fields(profile: VideoProfile, area: int) -> dict[str, Any]:
    """Fields of a request that only one kind of model accepts."""
    if profile.kind == "longcat-avatar":
        # The nearer of the two resolutions.
        resolution = "480p" if area <= (480 * 832 + 768 * 1280) // 2 else "720p"
        return {"extra_params": {"stage": "ai2v", "resolution": resolution, "num_segments": "auto"}}
    return {}
