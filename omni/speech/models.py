"""Which models speak, and what a server's model is."""

from __future__ import annotations

import os
import re

import msgspec

from http_client.model_list import ServedModel
from omni.images.profiles import PROFILES, pipeline_class
from settings import in_clone

CAPABLE = "k2-fsa/OmniVoice, Qwen/Qwen3-TTS and CosyVoice3"
MAX_CONFIG_BYTES = 1_000_000
# The models for which vLLM-Omni 0.30 has an adapter in `entrypoints/openai/tts_adapters`, and OmniVoice.
_SPEAKERS = re.compile(
    r"omnivoice|tts|cosyvoice|voxtral.*tts|fish-?speech|fish-?audio|openaudio|higgs-audio|voxcpm|ming-(?:flash-)?omni|"
    r"step-audio|gepard|covo-audio|audex|audio8"
)
_OTHERS = re.compile(
    r"flux|qwen-image|z-image|stable-diffusion|stable-audio|sdxl|sd3|hunyuan|ltx|cosmos|helios|lingbot|sana|minimax-h3|"
    r"bagel|wan|longcat|omnigen|glm-image|ovis|hidream|ernie|nextstep|demo-image|klein"
)
_IMAGES = frozenset(name.casefold().rpartition("/")[2] for name in PROFILES)


class SpeechModel(msgspec.Struct, frozen=True):
    """The served model.

    Attributes:
        name: for users.
        served_as: the name in requests; `None` where the server reports no model.
        warning: why the request may fail, for a model that is not known to speak.
    """

    name: str
    served_as: str | None
    warning: str | None = None

    @property
    def known(self) -> bool:
        """Whether it is known to speak."""
        return self.warning is None


def speaks(model: ServedModel) -> bool | None:
    """Whether a model makes speech; `None` where that is not known."""
    root = model.root or model.id
    architectures = _architectures(root)
    if any(_SPEAKERS.search(name) for name in architectures):
        return True
    if pipeline_class(root):
        return False
    names = [name.casefold().rstrip("/").rpartition("/")[2] for name in (model.id, root)]
    if any(map(_SPEAKERS.search, names)):
        return True
    if any(name in _IMAGES or _OTHERS.search(name) for name in names):
        return False
    return None


def advice() -> str:
    """Which models speak, and how to serve one."""
    tiny = in_clone(", or without a GPU, for noise only, `scripts/omni-cpu --tiny omnivoice`")
    return (
        f"Models that speak: {CAPABLE}. Serve one (`vllm serve k2-fsa/OmniVoice --omni`{tiny}) and set OMNI_SPEECH_URL "
        "to its address."
    )


def _architectures(folder: str) -> list[str]:
    """The model's classes in its files, in lower case; empty where these are not on this machine."""
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            config = msgspec.json.decode(file.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError):
        return []
    found = config.get("architectures") if isinstance(config, dict) else None
    return [name.casefold() for name in found if isinstance(name, str)] if isinstance(found, list) else []
