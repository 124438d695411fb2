"""A CPU platform for vLLM-Omni 0.30, which has none: without it, a server fails at `set_device`.

vLLM-Omni calls each of these methods while it serves a diffusion model; its base class does not implement them, or
`torch.cpu`, which vLLM uses otherwise, lacks them.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import torch
from vllm.platforms.cpu import CpuPlatform
from vllm.utils.cpu_resource_utils import get_memory_node_info
from vllm_omni.platforms.interface import OmniPlatform, OmniPlatformEnum


class CpuOmniPlatform(OmniPlatform, CpuPlatform):
    """One device, the CPU; memory is that of the process."""

    _omni_enum = OmniPlatformEnum.OOT
    # vLLM-Omni expects a list of devices in this variable; vLLM's for CPUs is a list of NUMA nodes.
    device_control_env_var = "OMNI_CPU_VISIBLE_DEVICES"

    @classmethod
    def get_diffusion_attn_backend_cls(
        cls, selected_backend: str | None, head_size: int, allow_trtllm_default: bool = False
    ) -> str:
        """The only attention backend here; raises `ValueError` when another one is selected."""
        if selected_backend not in (None, "TORCH_SDPA"):
            raise ValueError(f"On a CPU the only attention backend is TORCH_SDPA, not {selected_backend}.")
        return "omni_cpu.attention.CpuAttentionBackend"

    @classmethod
    def supports_torch_inductor(cls) -> bool:
        """No: compiling needs a C++ compiler, and takes longer than a small model needs for its images."""
        return False

    @classmethod
    def supports_cpu_offload(cls) -> bool:
        """No: the weights are already in host memory."""
        return False

    @classmethod
    def get_torch_device(cls, local_rank: int | None = None) -> torch.device:
        """The CPU, whatever the rank."""
        return torch.device("cpu")

    @classmethod
    def set_device(cls, device: torch.device) -> None:
        """Initializes torch.distributed without a network if there is only one process.

        vLLM-Omni would initialize it next, with a store that listens on all addresses of the machine.
        """
        super().set_device(device)
        if os.environ.get("WORLD_SIZE") == "1" and not torch.distributed.is_initialized():
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group(cls.dist_backend, store=store, world_size=1, rank=0)

    @classmethod
    def get_device_count(cls) -> int:
        """One: torch distributes work over the cores."""
        return 1

    @classmethod
    def synchronize(cls) -> None:
        """Does nothing: work on a CPU is complete when its call returns."""

    @classmethod
    def empty_cache(cls) -> None:
        """Does nothing: torch does not cache CPU memory."""

    @classmethod
    def get_free_memory(cls, device: torch.device | None = None) -> int:
        """The available memory of the first memory node in bytes, within the container's limit."""
        return int(get_memory_node_info(0).available_memory)

    @classmethod
    def reset_peak_memory_stats(cls, device: torch.device | None = None) -> None:
        """Resets the kernel's count of the process's peak memory, if it allows that."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return

    @classmethod
    def max_memory_reserved(cls, device: torch.device | None = None) -> int:
        """The process's peak memory since `reset_peak_memory_stats` in bytes: `peak_memory_mb` of responses."""
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    max_memory_allocated = max_memory_reserved
