"""This machine's memory: how much is free, what the server holds of it, and giving back what was freed."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine import gpu
from engine.gpu import Device

_REMEMBERING = (
    "vllm.tokenizers.",
    "vllm.transformers_utils.",
    "vllm.renderers.",
    "vllm.multimodal.processing.",
    "vllm.utils.func_utils",
)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What some processes hold at one moment, with the state of the GPUs and of the machine.

    `process_bytes` is their resident memory; pages that several share count for each.
    """

    process_bytes: int | None
    free_bytes: int
    devices: tuple[Device, ...]

    @property
    def gpu_bytes(self) -> int | None:
        """What the processes hold on all GPUs; `None` without a GPU, or where the driver does not tell."""
        return total(device.server_bytes for device in self.devices)

    @property
    def gpu_used_bytes(self) -> int | None:
        """What is in use on all GPUs, other programs included; `None` without a GPU."""
        return total(device.used_bytes for device in self.devices)


def memory_use(process_ids: Sequence[int]) -> MemoryUse:
    """Measures now."""
    return MemoryUse(
        process_bytes=total(map(_resident_bytes, process_ids)),
        free_bytes=free_memory_bytes(),
        devices=gpu.devices(process_ids),
    )


def total(figures: Iterable[int | None]) -> int | None:
    """The sum of those figures that are known; `None` where none is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def free_memory_bytes() -> int:
    """Memory that can be had without swapping: the machine's, or less where a control group allows less."""
    free = _machine_bytes()
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return min(free, max(0, limit - used)) if limit is not None and used is not None else free


def give_back_memory() -> None:
    """Returns freed memory to the system and, where CUDA was used, to the GPU."""
    _forget_tokenizers()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed blocks for itself otherwise
    except (OSError, AttributeError):
        return


def _forget_tokenizers() -> None:
    """Empties vLLM's memories of past calls that hold tokenizers and processors (0.32).

    Each load makes new ones and the old ones would stay: 1 MB a load with the smallest vocabulary, a hundred times that
    with a large one.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(_REMEMBERING):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


def _resident_bytes(process_id: int) -> int | None:
    try:
        with open(f"/proc/{process_id}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # it has ended meanwhile
        return None


def _machine_bytes() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # "max" stands for no limit
        return None
