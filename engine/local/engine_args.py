"""What vLLM gets of the settings: its environment before the import, and the arguments of `vllm.LLM`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

from engine.errors import EngineUnavailable
from engine.local.inputs import frame_reader
from engine.parts import MAX_AUDIO_S, MAX_FRAME_SIDE
from engine.prompts import structured_outputs
from settings import EngineSettings

FAILED = "Failed to initialize vLLM"
BUNDLED_KV_CACHE_BYTES = 256 << 20
MIN_KV_CACHE_BYTES = 64 << 20
CPU_MAX_NUM_SEQS = 32
ONEDNN_KERNELS = 64
MAX_AUDIO_MB = 128
"""`MAX_AUDIO_S` of 32-bit samples at 48 kHz have 115 MB."""
SPEECH_MAX_NUM_SEQS = 8
"""Windows of speech at a time: more hardly help on a CPU, where each is encoded for itself."""
SPEECH_RULES = "engine.local.inputs.whisper_rules:WhisperRules"
"""The logits processor of speech models, as vLLM imports it."""
KV_BLOCK_TOKENS = 128
"""The largest block of the KV cache; parts of a block are taken whole."""


def model_path(settings: EngineSettings) -> str:
    """The model's folder with `~` resolved, or its Hugging Face name.

    Raises: `EngineUnavailable` if the name can only be a folder, and that folder holds no model.
    """
    name = os.path.expanduser(settings.model_name)
    if os.path.isdir(name):
        if any(os.path.isfile(os.path.join(name, file)) for file in ("config.json", "params.json")):
            return name
        raise EngineUnavailable(
            f"{FAILED}: the folder {settings.model_name} holds no model (no config.json). "
            f"Set {settings.variable} to a model's folder or Hugging Face name."
        )
    if name.startswith((os.sep, ".")):
        raise EngineUnavailable(
            f"{FAILED}: there is no model folder {settings.model_name}. "
            f"Set {settings.variable} to a model's folder or Hugging Face name."
        )
    return name


def prepare_environment(settings: EngineSettings, log_level: str, environment: MutableMapping[str, str]) -> None:
    """Sets what vLLM and its libraries read from the environment; must be called before vLLM is imported.

    `settings.initialize` has removed this server's own variables.
    """
    for name in [name for name, value in environment.items() if name.startswith("VLLM_") and not value.strip()]:
        del environment[name]  # vLLM would parse "" as a number
    # vLLM runs lscpu to count the cores, and some hosts start a server without a PATH or with their own folders only.
    folders = filter(None, environment.get("PATH", "").split(os.pathsep))
    environment["PATH"] = os.pathsep.join(dict.fromkeys([*folders, *os.defpath.split(os.pathsep)]))
    environment["VLLM_LOGGING_STREAM"] = "ext://sys.stderr"
    environment["VLLM_NO_USAGE_STATS"] = environment["DO_NOT_TRACK"] = "1"
    environment.setdefault("VLLM_LOGGING_LEVEL", log_level)
    # Audio is handed over as samples, which are larger than the files that these limits are made for.
    environment.setdefault("VLLM_MAX_AUDIO_CLIP_FILESIZE_MB", str(MAX_AUDIO_MB))
    environment.setdefault("VLLM_MAX_AUDIO_DECODE_DURATION_S", str(MAX_AUDIO_S + 1))
    # A forked engine core would inherit this process's locks but not its threads.
    environment.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "OMP_WAIT_POLICY" not in environment:
        # By default the threads of a small model spin at each barrier, while another program uses the core: on a busy
        # machine that is ten times slower.
        environment.setdefault("GOMP_SPINCOUNT", "1000")
    # oneDNN compiles its kernels for each number of tokens and caches 1,024 of them until the process ends, 0.8 MB each
    # with the bundled model. The layers share a few dozen; vLLM has a cache of its own.
    environment.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_KERNELS))
    if settings.hf_token:
        environment["HF_TOKEN"] = settings.hf_token
    if settings.are_all_here:  # huggingface_hub reads it once
        environment.setdefault("HF_HUB_OFFLINE", "1")


def llm_arguments(
    settings: EngineSettings, *, on_cpu: bool, free_bytes: int, for_adapters: Mapping[str, Any], can_sleep: bool = False
) -> dict[str, Any]:
    """The arguments for `vllm.LLM`; `extra_engine_args` win over all others.

    Arguments:
        on_cpu: vLLM runs without an accelerator.
        free_bytes: memory that is free for a KV cache on a CPU.
        for_adapters: the arguments of `engine.local.lora`.
        can_sleep: whether this platform has vLLM's sleep mode; on others vLLM does not load with it.
    """
    arguments: dict[str, Any] = {
        "model": model_path(settings),
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "enforce_eager": on_cpu,
        "max_num_seqs": CPU_MAX_NUM_SEQS if on_cpu else None,
        "limit_mm_per_prompt": media_limits(settings),
        "media_io_kwargs": frame_reader.MEDIA_IO_KWARGS,
        "reasoning_parser": settings.reasoning_parser,  # a grammar applies only after the reasoning
        "disable_log_stats": True,
        **structured_outputs.ENGINE_ARGUMENTS,
        **for_adapters,
    }
    if on_cpu:
        # vLLM's default takes 92 % of the memory, and the load fails if that much is not free.
        arguments["kv_cache_memory_bytes"] = kv_cache_bytes(settings, free_bytes)
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if can_sleep:
        arguments["enable_sleep_mode"] = True
    given = {name: value for name, value in arguments.items() if value is not None}
    return {**given, **settings.extra_engine_args}


def media_limits(settings: EngineSettings) -> dict[str, Any]:
    """The media of a prompt; kinds that a model does not take are ignored. The largest video sizes the warm-up."""
    n = settings.max_images_per_prompt
    side = {"width": MAX_FRAME_SIDE, "height": MAX_FRAME_SIDE}
    return {"image": n, "audio": n, "video": {"count": n, "num_frames": settings.video_frames, **side} if n else 0}


def speech_arguments(
    settings: EngineSettings, config: Mapping[str, Any], *, on_cpu: bool, free_bytes: int, cpu_capability: str
) -> dict[str, Any]:
    """The arguments for `vllm.LLM` and a model of Whisper's kind; `extra_engine_args` win over all others.

    Arguments:
        config: the model's `config.json`.
        on_cpu, free_bytes: as for `llm_arguments`.
        cpu_capability: the processor's vector instructions, by torch's name.
    """
    dtype = settings.dtype
    if on_cpu and dtype in ("auto", "float16"):
        # float16 takes ten times as long on a CPU, and the texts are no better. Without AVX-512, bfloat16 does too:
        # the encoder's products of matrices take eight times as long as in float32 (measured with torch 2.13).
        dtype = "float32" if cpu_capability == "AVX2" else "bfloat16"
    arguments: dict[str, Any] = {
        "model": model_path(settings),
        "dtype": dtype,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "enforce_eager": on_cpu,
        "max_num_seqs": SPEECH_MAX_NUM_SEQS,
        "limit_mm_per_prompt": {"audio": 1},
        "mm_processor_cache_gb": 0,  # no window comes twice, and each takes a megabyte
        "logits_processors": [SPEECH_RULES],
        "disable_log_stats": True,
        "kv_cache_memory_bytes": speech_kv_cache_bytes(settings, config, dtype, free_bytes if on_cpu else None),
    }
    if not on_cpu:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    return {**arguments, **settings.extra_engine_args}


def speech_kv_cache_bytes(
    settings: EngineSettings, config: Mapping[str, Any], dtype: str, free_bytes: int | None
) -> int:
    """The size of the KV cache for `SPEECH_MAX_NUM_SEQS` windows, each with its text and its encoded sound.

    On a CPU at most a quarter of `free_bytes`, or what the settings say; at least one window.
    """
    layers, width = (int(config.get(name) or default) for name, default in (("decoder_layers", 6), ("d_model", 512)))
    n_positions = sum(
        -(-int(config.get(name) or default) // KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS
        for name, default in (("max_target_positions", 448), ("max_source_positions", 1_500))
    )
    window = 2 * layers * width * n_positions * (4 if dtype == "float32" else 2)
    wanted = max(MIN_KV_CACHE_BYTES, SPEECH_MAX_NUM_SEQS * window)
    limits = [] if free_bytes is None else [free_bytes // 4]
    if settings.cpu_kvcache_space_gib is not None and free_bytes is not None:
        limits = [int(settings.cpu_kvcache_space_gib * (1 << 30))]
    return max(window, min([wanted, *limits]))


def kv_cache_bytes(settings: EngineSettings, free_bytes: int) -> int:
    """The size of the KV cache on a CPU; all models together take a quarter of the free memory."""
    if settings.cpu_kvcache_space_gib is not None:
        return int(settings.cpu_kvcache_space_gib * (1 << 30))
    if settings.is_bundled:
        return BUNDLED_KV_CACHE_BYTES
    return max(MIN_KV_CACHE_BYTES, free_bytes // 4 // settings.n_together)


def check_arguments(settings: EngineSettings, names: Collection[str], quantization_methods: Collection[str]) -> None:
    """Rejects invalid engine arguments with a clearer error than vLLM's.

    Arguments:
        names: the arguments that this vLLM has.
        quantization_methods: the values that this vLLM has for `quantization`.

    Raises: `EngineUnavailable`, which says what is wrong and what is valid.
    """
    for name in settings.extra_engine_args:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise EngineUnavailable(
                f"{FAILED}: this vLLM has no engine argument {name!r}.{hint} Change VLLM_EXTRA_ENGINE_ARGS."
            )
    quantization = settings.extra_engine_args.get("quantization")
    if quantization is not None and quantization not in quantization_methods:
        raise EngineUnavailable(
            f"{FAILED}: this vLLM has no quantization method {quantization!r}. In VLLM_EXTRA_ENGINE_ARGS, set "
            f"quantization to one of {', '.join(sorted(quantization_methods))}, or remove it for the model's own."
        )
