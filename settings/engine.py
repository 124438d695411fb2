"""The model and how vLLM runs it, the default sampling parameters, and the conversations."""

import os
from typing import Annotated, Any, Literal

import msgspec

from settings.installation import DEMO_MODEL
from settings.kinds import (
    FILE,
    FOLDER,
    JSON_OBJECT,
    MODEL,
    NAMED_FOLDERS,
    NAMED_MODELS,
    POSITIVE,
    SWITCH,
    TEXT,
    TOP_K,
    WEB_SERVER,
    ModelOptions,
    Setting,
    choice,
    number,
    positive,
    switch_or,
    whole,
)

MAX_IDLE_TIMEOUT_S = 30 * 24 * 3600
COMPILE_OFF = "off"
COMPILE_NOW = "now"
"""Values of `compile`; the second is no setting: the command `compile` makes the code."""
SHARE_OFF, SHARE_AUTO = "off", "auto"
DEFAULTS_OF_OTHERS: dict[str, Any] = {
    "max_model_len": None,
    "lora_modules": {},
    "extra_engine_args": {},
    "tool_parser": None,
    "reasoning_parser": None,
}
"""What a model of `VLLM_MODELS` does not take over from the default model, since it belongs to one model."""


class EngineSettings(msgspec.Struct, frozen=True):
    """The model and how vLLM runs it."""

    model_name: Annotated[
        str,
        Setting(
            "VLLM_MODEL_NAME",
            MODEL,
            "Hugging Face name or folder of the model; `HF_HUB_CACHE` holds downloads.",
            "the bundled model",
        ),
    ] = DEMO_MODEL
    served_name: str | None = None
    """No setting: the model's name in replies, of a model that `VLLM_MODELS` names."""
    default_model: str | None = None
    """No setting: what `VLLM_MODEL_NAME` says, where these are the settings of another model."""
    models: Annotated[
        dict[str, ModelOptions],
        Setting(
            "VLLM_MODELS",
            NAMED_MODELS,
            "Further models, which calls select by name (`model`); each loads at its first call.",
        ),
    ] = {}
    max_loaded_models: Annotated[
        int | None,
        Setting(
            "VLLM_MAX_LOADED_MODELS",
            POSITIVE,
            "Models in memory at a time; the one used longest ago makes room for another.",
            "as many as fit",
        ),
    ] = None
    asr_model: Annotated[
        str | None,
        Setting(
            "VLLM_ASR_MODEL",
            MODEL,
            "Speech model of `transcribe_audio`, e.g. openai/whisper-base: a name of `VLLM_MODELS`, a Hugging Face "
            "name or a folder.",
            "none",
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Setting(
            "VLLM_BASE_URL",
            WEB_SERVER,
            "Address of a vLLM or other OpenAI-compatible server that runs the model instead; `VLLM_MODEL_NAME` is the "
            "model's name there.",
            "none: the model runs in this server",
        ),
    ] = None
    unlisted_models: Annotated[
        bool,
        Setting(
            "VLLM_UNLISTED_MODELS",
            SWITCH,
            "1: calls may name a model that a provider or the server of `VLLM_BASE_URL` does not list, such as "
            "OpenRouter's `:nitro` or an Azure deployment.",
        ),
    ] = False
    remote_api_key: Annotated[
        str | None, Setting("VLLM_REMOTE_API_KEY", TEXT, "Key for the server of `VLLM_BASE_URL`.")
    ] = None
    dtype: Annotated[
        str,
        Setting(
            "VLLM_DTYPE",
            choice("auto", "float16", "bfloat16", "float32"),
            "Data type of the weights; auto: the model's own.",
        ),
    ] = "auto"
    max_model_len: Annotated[
        int | None, Setting("VLLM_MAX_MODEL_LEN", POSITIVE, "Context length in tokens.", "the model's")
    ] = None
    tensor_parallel_size: Annotated[
        int,
        Setting("VLLM_TENSOR_PARALLEL_SIZE", POSITIVE, "GPUs that share each layer of the model (tensor parallelism)."),
    ] = 1
    gpu_memory_utilization: Annotated[
        float,
        Setting(
            "VLLM_GPU_MEMORY_UTILIZATION", positive(1), "Share of the GPU's memory to use, by all models together."
        ),
    ] = 0.9
    share_gpu: Annotated[
        str,
        Setting(
            "VLLM_SHARE_GPU",
            choice(SHARE_OFF, SHARE_AUTO),
            "auto: where memory is short on a GPU of this machine, the idle one of chat model and vLLM-Omni sleeps.",
        ),
    ] = SHARE_OFF
    max_images_per_prompt: Annotated[
        int,
        Setting(
            "VLLM_MAX_IMAGES_PER_PROMPT",
            whole(0, 64),
            "Images in one prompt, including earlier ones of the session, and as many audio parts, and videos.",
        ),
    ] = 4
    video_frames: Annotated[
        int, Setting("VLLM_VIDEO_FRAMES", whole(1, 128), "Frames that a model gets of a video, spread evenly.")
    ] = 16
    lora_modules: Annotated[
        dict[str, str],
        Setting("VLLM_LORA_MODULES", NAMED_FOLDERS, "LoRA adapters, which calls select by name (`lora`)."),
    ] = {}
    extra_engine_args: Annotated[
        dict[str, Any],
        Setting(
            "VLLM_EXTRA_ENGINE_ARGS",
            JSON_OBJECT,
            'Further arguments of `vllm.LLM`, e.g. `{"max_num_seqs": 8, "quantization": "fp8"}`; they override all '
            "others.",
        ),
    ] = {}
    cpu_kvcache_space_gib: Annotated[
        float | None,
        Setting(
            "VLLM_CPU_KVCACHE_SPACE",
            positive(4_096),
            "Size of the KV cache on a CPU in GiB.",
            "0.25 for the bundled model, else a quarter of the free memory",
        ),
    ] = None
    cpu_int8: Annotated[
        bool,
        Setting(
            "VLLM_CPU_INT8",
            SWITCH,
            "1: on a CPU, the model's weights become int8 when it loads: faster and half as large, but less exact.",
        ),
    ] = False
    compile: Annotated[
        str,
        Setting(
            "VLLM_COMPILE",
            choice(COMPILE_OFF, "auto"),
            "auto: on a CPU, the model runs with compiled code where the command `compile` has made it.",
        ),
    ] = COMPILE_OFF
    tool_parser: Annotated[
        str | None, Setting("VLLM_TOOL_PARSER", TEXT, "vLLM's parser of the model's tool calls, e.g. hermes.")
    ] = None
    reasoning_parser: Annotated[
        str | None, Setting("VLLM_REASONING_PARSER", TEXT, "vLLM's parser of the model's reasoning, e.g. qwen3.")
    ] = None
    idle_timeout_s: Annotated[
        int,
        Setting(
            "GPU_IDLE_TIMEOUT",
            whole(0, MAX_IDLE_TIMEOUT_S),
            "Seconds after which an unused model is offloaded, or released if it cannot be offloaded; 0: never.",
        ),
    ] = 600
    preload: Annotated[
        bool | Literal["import"],
        Setting(
            "VLLM_PRELOAD",
            switch_or("import"),
            "1: load the model right after `initialize`; 0: at the first call; import: then too, but vLLM is imported "
            "before it, in the background.",
        ),
    ] = False
    hf_cache: Annotated[str, Setting("HF_HUB_CACHE", FOLDER, "Folder of downloaded models.")] = os.path.expanduser(
        os.path.join("~", ".cache", "huggingface", "hub")
    )
    hf_token: Annotated[
        str | None,
        Setting("HUGGING_FACE_HUB_TOKEN", TEXT, "Hugging Face token for gated models; `HF_TOKEN` works too."),
    ] = None

    @property
    def is_bundled(self) -> bool:
        """Whether the model is the bundled one."""
        return os.path.realpath(self.model_name) == os.path.realpath(DEMO_MODEL)

    @property
    def shown_name(self) -> str:
        """The model's name in replies: as configured, the bundled one without its folder."""
        if self.served_name is not None:
            return self.served_name
        return os.path.basename(DEMO_MODEL) if self.is_bundled else self.model_name

    def by_name(self) -> "dict[str, EngineSettings]":
        """The settings of each model by its name in replies: the default one, those of `VLLM_MODELS`, the ASR model.

        All models together have the part of a GPU's memory that `gpu_memory_utilization` says. Those without a share
        of their own get equal parts of what the others leave.
        """
        found = {self.shown_name: msgspec.structs.replace(self, gpu_memory_utilization=self._gpu_share)}
        for name, options in self.models.items():
            found.setdefault(name, self._with(name, options))
        if self.asr_model is not None:
            name = self.asr_model if self.asr_model in found else os.path.basename(self.asr_model.rstrip(os.sep))
            found.setdefault(name, self._with(name, ModelOptions(self.asr_model)))
        return found

    def _with(self, name: str, options: ModelOptions) -> "EngineSettings":
        own = {field: value for field, value in msgspec.structs.asdict(options).items() if value is not msgspec.UNSET}
        return msgspec.structs.replace(
            self,
            served_name=name,
            default_model=self.model_name,
            model_name=own.pop("model"),
            **{**DEFAULTS_OF_OTHERS, "gpu_memory_utilization": self._gpu_share, **own},
        )

    @property
    def _gpu_share(self) -> float:
        """The part of a GPU's memory for each model that has none of its own."""
        own = [
            each.gpu_memory_utilization
            for each in self.models.values()
            if each.gpu_memory_utilization is not msgspec.UNSET
        ]
        left = self.gpu_memory_utilization - sum(own)
        if self.n_together < self.n_models or left <= 0:
            return self.gpu_memory_utilization / self.n_together
        return left / (self.n_models - len(own))

    @property
    def n_models(self) -> int:
        """How many models the server has."""
        return 1 + len(self.models) + (self.asr_model is not None and self.asr_model not in self.models)

    @property
    def n_together(self) -> int:
        """How many models may be in memory at a time."""
        return min(self.n_models, self.max_loaded_models or self.n_models)

    @property
    def variable(self) -> str:
        """The setting that names the model."""
        if self.served_name is None:
            return "VLLM_MODEL_NAME"
        return "VLLM_MODELS" if self.served_name in self.models else "VLLM_ASR_MODEL"

    @property
    def are_all_here(self) -> bool:
        """Whether every model of the server is a folder of this machine, so that nothing is downloaded."""
        models = {
            self.model_name,
            self.default_model or self.model_name,
            *(each.model for each in self.models.values()),
        }
        if self.asr_model is not None and self.asr_model not in self.models:
            models.add(self.asr_model)
        return all(os.path.isdir(os.path.expanduser(model)) for model in models)

    @property
    def pipeline_parallel_size(self) -> int:
        """GPUs that run the layers one after another, an engine argument of vLLM."""
        size = self.extra_engine_args.get("pipeline_parallel_size", 1)
        return size if isinstance(size, int) else 1


class SamplingSettings(msgspec.Struct, frozen=True):
    """The sampling parameters of a call that gives none."""

    temperature: Annotated[
        float, Setting("VLLM_DEFAULT_TEMPERATURE", number(0, 2), "Default sampling temperature.")
    ] = 0.7
    max_tokens: Annotated[
        int, Setting("VLLM_DEFAULT_MAX_TOKENS", POSITIVE, "Default limit of the generated text in tokens.")
    ] = 512
    top_p: Annotated[float, Setting("VLLM_DEFAULT_TOP_P", positive(1), "Default top-p.")] = 1.0
    top_k: Annotated[int, Setting("VLLM_DEFAULT_TOP_K", TOP_K, "Default top-k; -1: off.")] = -1


class SessionSettings(msgspec.Struct, frozen=True):
    """How many conversations are kept, how much of each, and where."""

    max_sessions: Annotated[
        int, Setting("VLLM_MAX_SESSIONS", POSITIVE, "Sessions kept; the one created first is dropped first.")
    ] = 100
    max_session_messages: Annotated[
        int,
        Setting(
            "VLLM_MAX_SESSION_MESSAGES", whole(2), "Messages kept in a session; its oldest turns are dropped first."
        ),
    ] = 50
    max_session_bytes: int = 64 << 20
    """No setting: the decoded images kept in one session."""
    session_db: Annotated[
        str | None,
        Setting("VLLM_SESSION_DB", FILE, "SQLite file that keeps the sessions across restarts.", "none: memory only"),
    ] = None
