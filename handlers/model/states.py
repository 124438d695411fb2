"""The state of each configured model, for servers with several."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from engine.interface import EngineStatus
    from handlers.services import Services

GB = 1 << 30
"""As GPUs are labelled: a GPU of 24 GB has 24 × 2^30 bytes."""


class ModelState(msgspec.Struct, frozen=True):
    """One of several models; null if unknown, or not known before its first load.

    `accepts` are text, image, audio and video. `idle_time` and `idle_timeout` are seconds. `memory_gb` is what its own
    processes have on the GPUs; models on a CPU share this process, so it is null.
    """

    name: str
    is_default: bool
    state: str
    accepts: list[str] | None
    idle_time: float | None
    idle_timeout: int
    memory_gb: float | None
    error: str | None


def model_states(services: Services) -> list[ModelState] | msgspec.UnsetType:
    """All models, the default one first; unset if there is only one. Loads nothing; safe from any thread."""
    models = services.models
    statuses = models.statuses()
    if len(statuses) == 1:
        return msgspec.UNSET
    memory_bytes = _memory_bytes(services)
    return [
        ModelState(
            name=name,
            is_default=name == models.default,
            state=status.state,
            accepts=accepted(status),
            idle_time=idle_s(status),
            idle_timeout=services.idle_timeouts.of(name).timeout_s,
            memory_gb=gigabytes(memory_bytes.get(name)),
            error=status.error,
        )
        for name, status in statuses.items()
    ]


def accepted(status: EngineStatus) -> list[str] | None:
    """What a model accepts: text, image, audio, video; `None` where that is not known. One that transcribes: audio."""
    if status.transcribes:
        return ["audio"]
    known = {"image": status.supports_images, "audio": status.supports_audio, "video": status.supports_video}
    if all(accepts is None for accepts in known.values()):
        return None
    return ["text", *(kind for kind, accepts in known.items() if accepts)]


def idle_s(status: EngineStatus) -> float | None:
    """The seconds since the last use of a model in memory."""
    return None if status.last_used_s is None else round(time.monotonic() - status.last_used_s, 1)


def gigabytes(n_bytes: int | None) -> float | None:
    """Bytes as GB, to a thousandth."""
    return None if n_bytes is None else round(n_bytes / GB, 3)


def _memory_bytes(services: Services) -> dict[str, int | None]:
    """The memory on the GPUs of each model that has processes of its own."""
    from engine.hardware.memory import memory_use

    here = os.getpid()
    ids = {name: set(engine.process_ids()) - {here} for name, engine in services.models.engines().items()}
    return {
        name: memory_use(sorted(own)).gpu_bytes
        for name, own in ids.items()
        if own and not any(own & others for other, others in ids.items() if other != name)
    }
