"""The memory for models: whether one more fits, and how one gives way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol

from engine import model_catalog
from engine.interface import Engine, EngineState, OnPhase
from operating_system import machine
from settings import EngineSettings

log = logging.getLogger("engine")

WHOLE_GPU = 1.0 + 1e-6
"""The shares of all models in a GPU's memory, which are rounded."""


class Room(Protocol):
    """The memory for models."""

    def fits(self, name: str, loaded: Collection[str]) -> bool:
        """Whether a model can be loaded beside these; takes a millisecond at most."""

    def give_way(self, name: str, on_phase: OnPhase) -> None:
        """Frees the memory of a loaded model that is not used, and reports how; does not raise."""


class MachineRoom:
    """Room in the memory of this machine, or of its GPUs, where the loaded models are there.

    Each model has its share of a GPU, which it fills whole with its KV cache: `gpu_memory_utilization`. On a CPU, what
    is free is measured before each load.

    Arguments:
        settings: those of each model by its name.
        made: the engines made so far by the names of their models.
        free_bytes: measures the host's free memory, `None` where it is not known.
    """

    def __init__(
        self,
        settings: Mapping[str, EngineSettings],
        made: Callable[[], Mapping[str, Engine]],
        free_bytes: Callable[[], int | None] = machine.free_memory_bytes,
    ) -> None:
        self._settings = settings
        self._made = made
        self._free_bytes = free_bytes

    def fits(self, name: str, loaded: Collection[str]) -> bool:
        """Whether a model fits beside these; true where that is not known."""
        made = self._made()
        if any(made[other].status().device != "cpu" for other in loaded):
            return sum(gpu_share(self._settings[each]) for each in {name, *loaded}) <= WHOLE_GPU
        return self._has(self._needed_bytes(name))

    def give_way(self, name: str, on_phase: OnPhase) -> None:
        """Offloads a model where the host has the memory for it, or else releases it."""
        engine = self._made()[name]
        try:
            if engine.status().can_offload and self._host_takes(name):
                on_phase(f"offloading {name} to make room")
                engine.offload()
            else:
                on_phase(f"releasing {name} to make room")
                engine.release()
        except Exception:  # its engine is dropped then, and with it the memory
            log.warning("The model %s did not give way in order.", name, exc_info=True)

    def _host_takes(self, name: str) -> bool:
        """Whether the host has the memory for a model's weights, if need be after the release of offloaded models."""
        weights_bytes = model_catalog.weights_bytes(self._settings[name])
        for sleeping in self._offloaded():
            if self._has(weights_bytes):
                break
            sleeping.release()
        return self._has(weights_bytes)

    def _offloaded(self) -> Iterator[Engine]:
        """The offloaded models, the one used longest ago first."""
        statuses = {engine: engine.status() for engine in self._made().values()}
        offloaded = [engine for engine in statuses if statuses[engine].state is EngineState.OFFLOADED]
        yield from sorted(offloaded, key=lambda engine: statuses[engine].last_used_s or 0.0)

    def _needed_bytes(self, name: str) -> int | None:
        settings = self._settings[name]
        weights_bytes = model_catalog.weights_bytes(settings)
        if weights_bytes is None:
            return None
        return model_catalog.needed_bytes(weights_bytes) + int((settings.cpu_kvcache_space_gib or 0.0) * (1 << 30))

    def _has(self, n_bytes: int | None) -> bool:
        free = self._free_bytes()
        return n_bytes is None or free is None or n_bytes <= free


def gpu_share(settings: EngineSettings) -> float:
    """The part of a GPU's memory that a model takes."""
    return float(settings.extra_engine_args.get("gpu_memory_utilization", settings.gpu_memory_utilization))
