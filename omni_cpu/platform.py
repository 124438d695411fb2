"""The CPU as a platform of vLLM-Omni 0.30, which has none: without it a server ends at `set_device`.

Each method stands for one that vLLM-Omni calls while it serves a diffusion model, and that its base class leaves
unimplemented or that `torch.cpu`, where vLLM looks up the rest, lacks.
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
    """One device, the CPU; memory is the process's own."""

    _omni_enum = OmniPlatformEnum.OOT
    # vLLM-Omni reads a list of devices from this variable; vLLM's own for CPUs is a list of NUMA nodes.
    device_control_env_var = "OMNI_CPU_VISIBLE_DEVICES"

    @classmethod
    def get_diffusion_attn_backend_cls(
        cls, selected_backend: str | None, head_size: int, allow_trtllm_default: bool = False
    ) -> str:
        """The only attention that runs here.

        Raises: `ValueError` when another one was asked for.
        """
        if selected_backend not in (None, "TORCH_SDPA"):
            raise ValueError(f"On a CPU the only attention backend is TORCH_SDPA, not {selected_backend}.")
        return "omni_cpu.attention.CpuAttentionBackend"

    @classmethod
    def supports_torch_inductor(cls) -> bool:
        """No: compiling a model takes a C++ compiler, and longer than a small model's pictures."""
        return False

    @classmethod
    def supports_cpu_offload(cls) -> bool:
        """No: the weights are in the host's memory already."""
        return False

    @classmethod
    def get_torch_device(cls, local_rank: int | None = None) -> torch.device:
        """The CPU, whatever the rank."""
        return torch.device("cpu")

    @classmethod
    def set_device(cls, device: torch.device) -> None:
        """Where there is one process only, starts torch's distributed state, which comes next, without a network.

        vLLM-Omni would start it with a store that listens on all addresses of the machine.
        """
        super().set_device(device)
        if os.environ.get("WORLD_SIZE") == "1" and not torch.distributed.is_initialized():
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group(cls.dist_backend, store=store, world_size=1, rank=0)

    @classmethod
    def get_device_count(cls) -> int:
        """One: torch shares out the cores by itself."""
        return 1

    @classmethod
    def synchronize(cls) -> None:
        """Nothing to wait for: work on a CPU is done when its call returns."""

    @classmethod
    def empty_cache(cls) -> None:
        """Nothing to empty: torch keeps no cache of a CPU's memory."""

    @classmethod
    def get_free_memory(cls, device: torch.device | None = None) -> int:
        """What is available on the first memory node, in bytes; the limit of a container holds."""
        return int(get_memory_node_info(0).available_memory)

    @classmethod
    def reset_peak_memory_stats(cls, device: torch.device | None = None) -> None:
        """Makes the kernel count the process's peak from now on, where it allows that."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return

    @classmethod
    def max_memory_reserved(cls, device: torch.device | None = None) -> int:
        """The peak of the process's memory since `reset_peak_memory_stats`, in bytes: `peak_memory_mb` of answers."""
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    max_memory_allocated = max_memory_reserved
