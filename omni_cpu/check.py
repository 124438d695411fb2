"""`python -m omni_cpu.check` imports the modules of a server, and checks that vLLM-Omni found this plugin.

Python caches the compiled modules, so the first start is as fast as later ones.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Exits with an error message when the environment cannot serve."""
    import vllm_omni.entrypoints.cli.serve
    import vllm_omni.entrypoints.openai.api_server  # noqa: F401
    from vllm_omni.platforms import current_omni_platform

    import omni_cpu.pipelines
    import omni_cpu.speech_pipelines  # noqa: F401
    from omni_cpu.platform import CpuOmniPlatform

    if not isinstance(current_omni_platform, CpuOmniPlatform):
        sys.exit(f"vLLM-Omni runs on {type(current_omni_platform).__name__}; omni_cpu needs the CPU build of vLLM")


if __name__ == "__main__":
    main()
