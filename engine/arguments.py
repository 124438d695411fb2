"""From our settings to vLLM's: the environment it reads when imported, and the arguments of `vllm.LLM`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

import settings as configuration
from engine import structured
from engine.errors import EngineUnavailable
from settings import EngineSettings

FAILED = "Failed to initialize vLLM"
BUNDLED_KV_CACHE_BYTES = 256 << 20
LEAST_KV_CACHE_BYTES = 64 << 20
CPU_MAX_NUM_SEQS = 32
ONEDNN_KERNELS = 64

# Ours may be fractions, vLLM crashes on those; what they mean reaches it through arguments or not at all.
_NOT_FOR_VLLM = ("VLLM_CPU_KVCACHE_SPACE", "VLLM_IMAGE_FETCH_TIMEOUT")


def is_bundled(settings: EngineSettings) -> bool:
    """Whether the model is the one that comes with the server."""
    return os.path.realpath(settings.model_name) == os.path.realpath(configuration.DEMO_MODEL)


def shown_name(settings: EngineSettings) -> str:
    """The model's name for people: as configured, the bundled one without its folder."""
    return os.path.basename(configuration.DEMO_MODEL) if is_bundled(settings) else settings.model_name


def model_path(settings: EngineSettings) -> str:
    """The model's folder with `~` resolved, or its Hugging Face name.

    Raises: `EngineUnavailable` when the name can only be a folder and that has no model in it.
    """
    name = os.path.expanduser(settings.model_name)
    if os.path.isdir(name):
        if any(os.path.isfile(os.path.join(name, file)) for file in ("config.json", "params.json")):
            return name
        raise EngineUnavailable(
            f"{FAILED}: the folder {settings.model_name} holds no model (no config.json). "
            "Set VLLM_MODEL_NAME to a model's folder or Hugging Face name."
        )
    if name.startswith((os.sep, ".")):
        raise EngineUnavailable(
            f"{FAILED}: there is no model folder {settings.model_name}. "
            "Set VLLM_MODEL_NAME to a model's folder or Hugging Face name."
        )
    return name


def prepare_environment(settings: EngineSettings, log_level: str, environment: MutableMapping[str, str]) -> None:
    """Sets what vLLM and its libraries read from the environment; to be called before vLLM is imported."""
    for name in [name for name, value in environment.items() if name.startswith("VLLM_") and not value.strip()]:
        del environment[name]  # vLLM would take "" for a number
    for name in _NOT_FOR_VLLM:
        environment.pop(name, None)
    # vLLM asks lscpu about the cores, and hosts may start a server without a PATH, or with one of their own programs.
    folders = filter(None, environment.get("PATH", "").split(os.pathsep))
    environment["PATH"] = os.pathsep.join(dict.fromkeys([*folders, *os.defpath.split(os.pathsep)]))
    environment["VLLM_LOGGING_STREAM"] = "ext://sys.stderr"
    environment["VLLM_NO_USAGE_STATS"] = environment["DO_NOT_TRACK"] = "1"
    environment.setdefault("VLLM_LOGGING_LEVEL", log_level)
    # A forked engine core would inherit this process's locks but not its threads.
    environment.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "OMP_WAIT_POLICY" not in environment:
        # Threads of a small model otherwise spin at each barrier for a core that another program has: ten times slower
        # on a busy machine.
        environment.setdefault("GOMP_SPINCOUNT", "1000")
    # oneDNN compiles its kernels for each number of tokens anew and remembers 1,024 of them, 0.8 MB each with the
    # bundled model, for as long as the process lives. What the layers share needs a few dozen; vLLM has a memory of its
    # own.
    environment.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_KERNELS))
    if settings.multiprocessing is not None:
        environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(settings.multiprocessing))
    if settings.hf_token:
        environment["HF_TOKEN"] = settings.hf_token
    if os.path.isdir(os.path.expanduser(settings.model_name)):
        environment.setdefault("HF_HUB_OFFLINE", "1")


def llm_arguments(
    settings: EngineSettings,
    *,
    on_cpu: bool,
    free_bytes: int,
    for_adapters: Mapping[str, Any],
    can_sleep: bool = False,
) -> dict[str, Any]:
    """The arguments for `vllm.LLM`; `extra_engine_args` win over all others.

    Arguments:
        on_cpu: vLLM runs without an accelerator.
        free_bytes: memory that is free for a KV cache on a CPU.
        for_adapters: what `engine.adapters` wants.
        can_sleep: vLLM's sleep mode exists on this platform; elsewhere vLLM refuses to load with it.
    """
    arguments: dict[str, Any] = {
        "model": model_path(settings),
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "quantization": settings.quantization,
        "enforce_eager": settings.enforce_eager if settings.enforce_eager is not None else on_cpu,
        "trust_remote_code": settings.trust_remote_code,
        "max_num_seqs": settings.max_num_seqs or (CPU_MAX_NUM_SEQS if on_cpu else None),
        "limit_mm_per_prompt": {"image": settings.max_images_per_prompt, "video": 0, "audio": 0},
        "mm_processor_kwargs": settings.mm_processor_kwargs,
        "reasoning_parser": settings.reasoning_parser,  # so that a grammar begins where the reasoning ends
        "disable_log_stats": True,
        **structured.ENGINE_ARGUMENTS,
        **for_adapters,
    }
    if on_cpu:
        # vLLM's own default takes 92 % of the memory and refuses to start where that is not free.
        arguments["kv_cache_memory_bytes"] = kv_cache_bytes(settings, free_bytes)
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if can_sleep:
        arguments["enable_sleep_mode"] = settings.enable_sleep_mode
    given = {name: value for name, value in arguments.items() if value is not None}
    return {**given, **(settings.extra_engine_args or {})}


def kv_cache_bytes(settings: EngineSettings, free_bytes: int) -> int:
    """The size of the KV cache on a CPU."""
    if settings.cpu_kvcache_space_gib is not None:
        return int(settings.cpu_kvcache_space_gib * (1 << 30))
    if is_bundled(settings):
        return BUNDLED_KV_CACHE_BYTES
    return max(LEAST_KV_CACHE_BYTES, free_bytes // 4)


def check_arguments(settings: EngineSettings, names: Collection[str], quantization_methods: Collection[str]) -> None:
    """Refuses what vLLM would answer with a puzzle.

    Arguments: `names`, the arguments that this vLLM knows; `quantization_methods`, its own list of them.
    Raises: `EngineUnavailable` that names what is wrong and what is valid.
    """
    for name in settings.extra_engine_args or {}:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise EngineUnavailable(
                f"{FAILED}: this vLLM has no engine argument {name!r}.{hint} Change VLLM_EXTRA_ENGINE_ARGS."
            )
    if settings.quantization is not None and settings.quantization not in quantization_methods:
        raise EngineUnavailable(
            f"{FAILED}: this vLLM has no quantization method {settings.quantization!r}. Set VLLM_QUANTIZATION to one "
            f"of {', '.join(sorted(quantization_methods))}, or leave it empty for the model's own."
        )
