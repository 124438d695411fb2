"""Compiled code of models: where vLLM keeps it, and whether there is some for a model as it is to be loaded.

`vllm_server.py compile` makes the code, in a process of its own, and writes a note of it; the server loads the code
only where there is such a note. The code itself is in vLLM's cache, which identifies it by much more than the note:
with any change that the note does not cover, no code loads, and the model runs without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

NOTES = os.path.join("torch_compile_cache", "mcp_server")
"""The folder of the notes within `VLLM_CACHE_ROOT`."""
MEMORY_ARGUMENTS = ("kv_cache_memory_bytes", "use_tqdm_on_load", "disable_log_stats")
"""Arguments of `vllm.LLM` that do not change the code; the first follows the free memory."""


def note_path(arguments: Mapping[str, Any]) -> str:
    """The file whose existence says that there is code for a model with these arguments of `vllm.LLM`.

    Its name covers the arguments, the releases of vLLM and torch, and the processor, for which the code is made.
    """
    import torch
    import vllm
    from vllm import envs

    known = {name: value for name, value in arguments.items() if name not in (*MEMORY_ARGUMENTS, "enforce_eager")}
    parts = (known, vllm.__version__, torch.__version__, torch.backends.cpu.get_cpu_capability(), _processor())
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return os.path.join(envs.VLLM_CACHE_ROOT, NOTES, digest)


def folder() -> str:
    """The folder in which vLLM keeps the code."""
    from vllm import envs

    return os.path.join(envs.VLLM_CACHE_ROOT, "torch_compile_cache")


def has_note(path: str) -> bool:
    """Whether there is code."""
    return os.path.isfile(path)


def write_note(path: str, model: str) -> None:
    """Says that there is code; the text is for people who look."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{model}\n")


def drop_note(path: str) -> None:
    """Says that there is no code any more."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def missing_compiler() -> str | None:
    """Why no C++ compiler can be used, in a few words, or None; torch needs one to load code too."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:
        return str(error).partition("\n")[0]
    return None


def n_loaded() -> int:
    """How many models of this process run with code that was loaded."""
    from vllm.compilation.counter import compilation_counter

    return int(compilation_counter.num_aot_artifacts_loaded)


def n_kept() -> int:
    """For how many models this process has made or loaded code."""
    from vllm.compilation.counter import compilation_counter

    return int(compilation_counter.num_aot_artifacts_saved) + n_loaded()


def _processor() -> str:
    """The instructions that the processor has; "" where the system does not say."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return " ".join(sorted(line.partition(":")[2].split()))
    return ""
