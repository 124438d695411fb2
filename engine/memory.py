"""This machine's memory: how much is free, and giving back what was freed."""

from __future__ import annotations

import ctypes
import gc
import os
import sys


def free_memory_bytes() -> int:
    """Memory that can be had without swapping: the machine's, or less where a control group allows less."""
    free = _machine_bytes()
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return min(free, max(0, limit - used)) if limit is not None and used is not None else free


def resident_bytes() -> int | None:
    """What this process holds in the machine's memory; `None` where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def give_back_memory() -> None:
    """Returns freed memory to the system and, where CUDA was used, to the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed blocks for itself otherwise
    except (OSError, AttributeError):
        return


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
