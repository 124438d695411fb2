"""A plugin for vLLM-Omni: its diffusion models run on the CPU, and stop between two steps when told to.

vLLM-Omni itself stays as it is. It finds the two functions below by their entry points (`pyproject.toml`), and takes
from them a platform (`platform.py`, `attention.py`) and pipelines in place of three of its own (`pipelines.py`).
Nothing here knows the MCP server; the two meet over HTTP only.
"""

from __future__ import annotations


def platform_plugin() -> str | None:
    """Names the platform when vLLM itself was built for CPUs; None leaves the choice to vLLM-Omni."""
    from vllm.platforms import current_platform

    return "omni_cpu.platform.CpuOmniPlatform" if current_platform.is_cpu() else None


def register_pipelines() -> None:
    """Puts our pipelines in the place of vLLM-Omni's; they are imported when a checkpoint asks for them."""
    from vllm.platforms import current_platform
    from vllm_omni.diffusion.registry import register_diffusion_model

    if not current_platform.is_cpu():
        return
    for architecture, pipeline in (
        ("Flux2KleinPipeline", "StoppableFlux2Klein"),
        ("QwenImagePipeline", "StoppableQwenImage"),
        ("WanS2VPipeline", "StoppableWanS2V"),
    ):
        register_diffusion_model(architecture, "omni_cpu.pipelines", pipeline)
