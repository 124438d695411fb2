"""The `config.json` of a model, as far as it is on this machine before a load."""

from __future__ import annotations

import json
import os
from typing import Any

from engine.errors import InvalidGeneration
from engine.model_files import snapshot
from settings import EngineSettings

SPEECH_ARCHITECTURES = frozenset({"WhisperForConditionalGeneration"})
"""The classes of vLLM whose models transcribe and take no messages (vLLM 0.32: `supports_transcription_only`)."""
MAX_BYTES = 10_000_000


def model_config(settings: EngineSettings) -> dict[str, Any] | None:
    """The configuration of a model's folder or of its download; `None` where there is none or it cannot be read."""
    name = os.path.expanduser(settings.model_name)
    folder: str | None = name if os.path.isdir(name) else snapshot(settings.hf_cache, settings.model_name)
    if folder is None:
        return None
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            found = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def transcribes(settings: EngineSettings) -> bool | None:
    """Whether a model transcribes speech and takes no messages; `None` where its files are not here."""
    if settings.base_url is not None:
        return None
    config = model_config(settings)
    if config is None:
        return None
    architectures = config.get("architectures")
    return isinstance(architectures, list) and not SPEECH_ARCHITECTURES.isdisjoint(map(str, architectures))


def takes_no_messages(name: str) -> InvalidGeneration:
    """The error for messages to a model that transcribes."""
    return InvalidGeneration(
        f"The model {name} transcribes speech and takes no messages. Use transcribe_audio with it, or name another "
        "model."
    )


def transcribes_nothing(name: str) -> InvalidGeneration:
    """The error for speech to a model that takes messages."""
    return InvalidGeneration(
        f"The model {name} does not transcribe: transcribe_audio takes models of Whisper's kind. Name one with model, "
        "or set VLLM_ASR_MODEL, e.g. to openai/whisper-base or a folder."
    )


def transcribes_elsewhere() -> InvalidGeneration:
    """The error for speech where a server has the models: servers take whole files, not windows."""
    return InvalidGeneration(
        "Speech is transcribed in this process only, and VLLM_BASE_URL names a server. For transcribe_audio, start "
        "another server without VLLM_BASE_URL and with VLLM_ASR_MODEL."
    )
