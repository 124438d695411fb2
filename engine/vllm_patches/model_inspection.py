"""How vLLM looks at the class of a model before it loads the model."""

from __future__ import annotations


def inspect_model_classes_here() -> None:
    """Has vLLM look at a model's class in this process, which imports it anyway.

    For the first load of an architecture, vLLM 0.32 starts a child process that imports all of vLLM (8 to 10 seconds on
    two cores) to keep CUDA out of its own process. Nothing of that matters on a CPU.
    """
    from vllm.model_executor.models import registry

    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = lambda inspect: inspect()
