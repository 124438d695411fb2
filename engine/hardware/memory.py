"""Measures free memory and the server's memory, and returns freed memory to the system."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.hardware import gpu
from engine.hardware.gpu import Device
from operating_system import machine

_CACHING_MODULES = (
    "vllm.tokenizers.",
    "vllm.transformers_utils.",
    "vllm.renderers.",
    "vllm.multimodal.processing.",
    "vllm.utils.func_utils",
)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """The memory of some processes, of the GPUs and of the machine at one moment.

    `process_bytes` is the processes' resident memory; shared pages count for each process. `free_bytes` is the host's
    memory available without swapping. Both are None where the system does not report them.
    """

    process_bytes: int | None
    free_bytes: int | None
    devices: tuple[Device, ...]

    @property
    def gpu_bytes(self) -> int | None:
        """The processes' memory on all GPUs; `None` without a GPU, or if the driver does not report it."""
        return total(device.server_bytes for device in self.devices)

    @property
    def gpu_used_bytes(self) -> int | None:
        """The used memory of all GPUs, including other programs; `None` without a GPU."""
        return total(device.used_bytes for device in self.devices)


def memory_use(process_ids: Sequence[int]) -> MemoryUse:
    """Measures now."""
    return MemoryUse(
        process_bytes=total(map(machine.resident_bytes, process_ids)),
        free_bytes=machine.free_memory_bytes(),
        devices=gpu.devices(process_ids),
    )


def total(figures: Iterable[int | None]) -> int | None:
    """The sum of the known values; `None` if none is known."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def give_back_memory() -> None:
    """Returns freed memory to the system and, if CUDA was used, to the GPU."""
    _clear_tokenizer_caches()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    machine.return_freed_memory()


def _clear_tokenizer_caches() -> None:
    """Clears vLLM's function caches, which hold tokenizers and processors (0.32). Each load creates new ones, and the
    old ones would stay: 1 MB per load with the smallest vocabulary, 100 MB with a large one."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_CACHING_MODULES):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()
