"""The model, how vLLM runs it, what a call without sampling arguments gets, and the conversations."""

import os
from typing import Annotated, Any

import msgspec

from settings.kinds import (
    FILE,
    FOLDER,
    JSON_OBJECT,
    MODEL,
    NAMED_FOLDERS,
    POSITIVE,
    SWITCH,
    TEXT,
    TOP_K,
    WEB_SERVER,
    Setting,
    choice,
    number,
    whole,
)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEMO_MODEL = os.path.join(ROOT, "models", "demo-vlm")
MAX_IDLE_TIMEOUT_S = 30 * 24 * 3600


class EngineSettings(msgspec.Struct, frozen=True):
    """The model and how vLLM runs it."""

    model_name: Annotated[
        str, Setting("VLLM_MODEL_NAME", MODEL, "Hugging Face name or folder of the model.", "the bundled demo model")
    ] = DEMO_MODEL
    base_url: Annotated[
        str | None,
        Setting(
            "VLLM_BASE_URL",
            WEB_SERVER,
            "Address of a vLLM or other OpenAI-compatible server that has the model instead; `VLLM_MODEL_NAME` is then "
            "its name there.",
            "none: the model runs here",
        ),
    ] = None
    unlisted_models: Annotated[
        bool,
        Setting(
            "VLLM_UNLISTED_MODELS",
            SWITCH,
            "1: providers and the server of `VLLM_BASE_URL` are asked for a model that they do not list, such as "
            "OpenRouter's `:nitro` or an Azure deployment.",
        ),
    ] = False
    remote_api_key: Annotated[
        str | None, Setting("VLLM_REMOTE_API_KEY", TEXT, "Key that the server at `VLLM_BASE_URL` asks for.", "none")
    ] = None
    dtype: Annotated[
        str,
        Setting("VLLM_DTYPE", choice("auto", "float16", "bfloat16", "float32"), "Data type; auto: the model's own."),
    ] = "auto"
    max_model_len: Annotated[
        int | None, Setting("VLLM_MAX_MODEL_LEN", POSITIVE, "Context length in tokens.", "the model's")
    ] = None
    tensor_parallel_size: Annotated[
        int, Setting("VLLM_TENSOR_PARALLEL_SIZE", POSITIVE, "GPUs that share each layer of the model.")
    ] = 1
    pipeline_parallel_size: Annotated[
        int, Setting("VLLM_PIPELINE_PARALLEL_SIZE", POSITIVE, "Groups of GPUs that share the layers one after another.")
    ] = 1
    gpu_memory_utilization: Annotated[
        float,
        Setting(
            "VLLM_GPU_MEMORY_UTILIZATION", number(0, 1, exclusive_minimum=True), "Share of the GPU's memory to use."
        ),
    ] = 0.9
    quantization: Annotated[
        str | None, Setting("VLLM_QUANTIZATION", TEXT, "Quantization method of vLLM, e.g. fp8 or awq.", "the model's")
    ] = None
    enforce_eager: Annotated[
        bool | None,
        Setting("VLLM_ENFORCE_EAGER", SWITCH, "1: no compilation and no CUDA graphs.", "1 on a CPU, else 0"),
    ] = None
    trust_remote_code: Annotated[
        bool, Setting("VLLM_TRUST_REMOTE_CODE", SWITCH, "1: run Python code that comes with a model.")
    ] = False
    max_num_seqs: Annotated[
        int | None,
        Setting("VLLM_MAX_NUM_SEQS", POSITIVE, "Sequences that run in one batch.", "32 on a CPU, else vLLM's"),
    ] = None
    max_images_per_prompt: Annotated[
        int,
        Setting(
            "VLLM_MAX_IMAGES_PER_PROMPT", whole(0, 64), "Pictures in one prompt, a session's earlier ones included."
        ),
    ] = 4
    mm_processor_kwargs: Annotated[
        dict[str, Any] | None,
        Setting("VLLM_MM_PROCESSOR_KWARGS", JSON_OBJECT, "Options for the model's image processor.", "none"),
    ] = None
    lora_modules: Annotated[
        dict[str, str],
        Setting("VLLM_LORA_MODULES", NAMED_FOLDERS, "LoRA adapters that a call may pick by name (`lora`).", "none"),
    ] = {}
    extra_engine_args: Annotated[
        dict[str, Any] | None,
        Setting(
            "VLLM_EXTRA_ENGINE_ARGS", JSON_OBJECT, "More arguments for vllm.LLM; these win over all others.", "none"
        ),
    ] = None
    cpu_kvcache_space_gib: Annotated[
        float | None,
        Setting(
            "VLLM_CPU_KVCACHE_SPACE",
            number(0, 4_096, exclusive_minimum=True),
            "GiB for the KV cache on a CPU.",
            "0.25 for the bundled model, else a quarter of the free memory",
        ),
    ] = None
    multiprocessing: Annotated[
        bool | None,
        Setting(
            "VLLM_ENABLE_V1_MULTIPROCESSING",
            SWITCH,
            "1: the engine core in a process of its own, 0: in this one.",
            "0 on a CPU, else vLLM's",
        ),
    ] = None
    tool_parser: Annotated[
        str | None,
        Setting("VLLM_TOOL_PARSER", TEXT, "vLLM's parser for the model's tool calls, e.g. hermes.", "none"),
    ] = None
    reasoning_parser: Annotated[
        str | None,
        Setting("VLLM_REASONING_PARSER", TEXT, "vLLM's parser for the model's reasoning, e.g. qwen3.", "none"),
    ] = None
    enable_sleep_mode: Annotated[
        bool,
        Setting(
            "VLLM_ENABLE_SLEEP_MODE",
            SWITCH,
            "1: load so that `offload_gpu` can move the model off the GPU; a CPU knows no such mode.",
        ),
    ] = True
    idle_timeout_s: Annotated[
        int,
        Setting(
            "GPU_IDLE_TIMEOUT",
            whole(0, MAX_IDLE_TIMEOUT_S),
            "Seconds until an unused model is offloaded, or released where it cannot be; 0: never.",
        ),
    ] = 600
    preload: Annotated[
        bool, Setting("VLLM_PRELOAD", SWITCH, "1: load the model right after `initialize`; 0: at the first call.")
    ] = False
    hf_cache: Annotated[
        str,
        Setting(
            "HF_HUB_CACHE",
            FOLDER,
            "Folder of the models that Hugging Face has downloaded.",
            "`HF_HOME`/hub, or ~/.cache/huggingface/hub",
        ),
    ] = os.path.expanduser(os.path.join("~", ".cache", "huggingface", "hub"))
    hf_token: Annotated[
        str | None, Setting("HUGGING_FACE_HUB_TOKEN", TEXT, "Token for gated models (HF_TOKEN works too).", "none")
    ] = None


class SamplingSettings(msgspec.Struct, frozen=True):
    """What a call gets that does not say how to sample."""

    temperature: Annotated[
        float, Setting("VLLM_DEFAULT_TEMPERATURE", number(0, 2), "Default sampling temperature.")
    ] = 0.7
    max_tokens: Annotated[int, Setting("VLLM_DEFAULT_MAX_TOKENS", POSITIVE, "Default longest answer in tokens.")] = 512
    top_p: Annotated[float, Setting("VLLM_DEFAULT_TOP_P", number(0, 1, exclusive_minimum=True), "Default nucleus.")] = (
        1.0
    )
    top_k: Annotated[int, Setting("VLLM_DEFAULT_TOP_K", TOP_K, "Default top-k; -1: off.")] = -1


class SessionSettings(msgspec.Struct, frozen=True):
    """How many conversations are remembered, how much of each, and where."""

    max_sessions: Annotated[
        int, Setting("VLLM_MAX_SESSIONS", POSITIVE, "Sessions kept; the oldest created goes first.")
    ] = 100
    max_session_messages: Annotated[
        int, Setting("VLLM_MAX_SESSION_MESSAGES", whole(2), "Messages kept in a session; its oldest turns go first.")
    ] = 50
    max_session_bytes: Annotated[
        int, Setting("VLLM_MAX_SESSION_BYTES", whole(1 << 20), "Decoded pictures kept in one session.", "64 MiB")
    ] = 64 << 20
    session_db: Annotated[
        str | None,
        Setting("VLLM_SESSION_DB", FILE, "A SQLite file that keeps the sessions over restarts.", "none: memory only"),
    ] = None
