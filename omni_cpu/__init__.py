"""A vLLM-Omni plugin: diffusion models run on the CPU, and stop between two steps when their request is cancelled.

vLLM-Omni is not modified. It finds the two functions below by their entry points (`pyproject.toml`). They provide a
platform (`platform.py`, `attention.py`), and pipelines that replace some of vLLM-Omni's (`pipelines.py`,
`speech_pipelines.py`). The plugin does not know the MCP server, which uses it over HTTP only.
"""

from __future__ import annotations


def platform_plugin() -> str | None:
    """The path of the platform class if vLLM is a CPU build; `None` leaves the choice to vLLM-Omni."""
    from vllm.platforms import current_platform

    return "omni_cpu.platform.CpuOmniPlatform" if current_platform.is_cpu() else None


def register_pipelines() -> None:
    """Registers the pipelines in place of vLLM-Omni's; they are imported when a checkpoint needs them."""
    from vllm.platforms import current_platform
    from vllm_omni.diffusion.registry import register_diffusion_model

    if not current_platform.is_cpu():
        return
    import omni_cpu.attention  # noqa: F401

    for architecture, pipeline in (
        ("Flux2KleinPipeline", "StoppableFlux2Klein"),
        ("QwenImagePipeline", "StoppableQwenImage"),
        ("WanS2VPipeline", "StoppableWanS2V"),
        ("WanPipeline", "StoppableWan"),
        ("WanImageToVideoPipeline", "StoppableWanI2V"),
    ):
        register_diffusion_model(architecture, "omni_cpu.pipelines", pipeline)
    for architecture in ("OmniVoice", "OmniVoicePipeline"):
        register_diffusion_model(architecture, "omni_cpu.speech_pipelines", "StoppableOmniVoice")
