"""Every setting of the server: its name, default, range and meaning. Nothing else reads the environment.

Each room of the ground floor gets its own section, a frozen Struct. A wrong value does not stop the server: the
default is used in its place and a sentence is put into `Settings.problems`, which every tool call answers until the
setting is mended. Empty values count as not set, since some hosts pass them for "nothing".
"""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from setting_kinds import (
    FILE,
    FOLDER,
    FOLDERS,
    JSON_OBJECT,
    NAMED_FOLDERS,
    NAMED_SERVERS,
    NAMES,
    POSITIVE,
    SWITCH,
    TEXT,
    TOKENS,
    TOP_K,
    WEB_SERVER,
    Kind,
    auto_or,
    choice,
    number,
    some_of,
    whole,
)

if TYPE_CHECKING:
    from provider_settings import RemoteProvider

SERVER_NAME = "vllm-mcp-server"
SERVER_TITLE = "vLLM"
SERVER_DESCRIPTION = (
    "Chat with a vision-language model that runs on this machine, in a vLLM engine inside the server; pictures from a "
    "vLLM-Omni server."
)
SERVER_INSTRUCTIONS = (
    "chat_completion answers messages with text and pictures; give a session_id to hold a conversation. "
    "analyze_images_with_query looks at up to 64 pictures at once. Pictures are given by absolute path, URL or base64. "
    "The first call loads the model: if told that it still loads, ask again. release_gpu gives its memory back. "
    "generate_image makes pictures: status 'running' means that job_status has the result later. "
    "generate_multimodal_response asks hosted models; list_available_providers tells which there are."
)
SERVER_VERSION = "0.1.0"
ROOT = os.path.dirname(os.path.abspath(__file__))
DEMO_MODEL = os.path.join(ROOT, "models", "demo-vlm")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
TRANSPORTS = ("stdio", "http", "sse")
TOOL_FAMILIES = ("chat", "vision", "gpu", "images", "video", "providers")
MAX_IDLE_TIMEOUT_S = 30 * 24 * 3600


class Setting(msgspec.Struct, frozen=True):
    """What a field of a section is called outside, how it is read and what it means.

    `shown` is the default as the README shows it, where the value itself would not tell.
    """

    variable: str
    kind: Kind
    meaning: str
    shown: str | None = None


class ServerSettings(msgspec.Struct, frozen=True):
    """The wire and the queue."""

    log_level: Annotated[str, Setting("VLLM_LOG_LEVEL", choice(*LOG_LEVELS), "How much goes to the log.")] = "INFO"
    log_file: Annotated[
        str, Setting("VLLM_LOG_FILE", TEXT, "A file that gets the log instead of stderr.", "stderr")
    ] = ""
    call_timeout_s: Annotated[
        float,
        Setting("VLLM_CALL_TIMEOUT", number(0, 86_400), "Seconds until a call is answered in any case; 0: no limit."),
    ] = 0.0
    max_concurrent: Annotated[
        int,
        Setting(
            "VLLM_MAX_CONCURRENT",
            whole(1, 256),
            "Calls that run at once, in one batch of the engine; above 1 replies come as they are ready, not in order.",
        ),
    ] = 1
    max_queue: Annotated[
        int, Setting("VLLM_MAX_QUEUE", whole(1, 1_000_000), "Calls that may wait; one more is told that all is busy.")
    ] = 2_000
    max_line_bytes: Annotated[
        int,
        Setting(
            "VLLM_MAX_LINE_BYTES", whole(1_024, 1 << 30), "Longest message read from stdin or over HTTP.", "64 MiB"
        ),
    ] = 64 << 20
    max_result_bytes: Annotated[
        int,
        Setting("VLLM_MAX_RESULT_BYTES", whole(10_000, 10_000_000), "Longest tool result; Claude Desktop takes 1 MiB."),
    ] = 1_000_000
    toolsets: Annotated[
        tuple[str, ...], Setting("VLLM_TOOLSETS", some_of(*TOOL_FAMILIES), "Families of tools to offer.", "all")
    ] = ()

    def offers(self, *families: str) -> bool:
        """Whether tools of one of these families are offered."""
        return not self.toolsets or not set(families).isdisjoint(self.toolsets)


class HttpSettings(msgspec.Struct, frozen=True):
    """Whether clients come over stdin and stdout or over HTTP, and whom to let in there."""

    transport: Annotated[
        str,
        Setting(
            "VLLM_TRANSPORT",
            choice(*TRANSPORTS),
            "How clients come (`--transport`); sse: over HTTP, and over the older HTTP+SSE transport too.",
        ),
    ] = "stdio"
    host: Annotated[
        str, Setting("VLLM_HTTP_HOST", TEXT, "Address to listen on (`--host`); others than this machine's need tokens.")
    ] = "127.0.0.1"
    port: Annotated[
        int, Setting("VLLM_HTTP_PORT", whole(0, 65_535), "Port to listen on (`--port`); 0: any that is free.")
    ] = 8080
    tokens: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_HTTP_TOKENS", TOKENS, "Secrets, one of which each request must carry as its bearer token.", "none"
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting("VLLM_HTTP_ALLOWED_HOSTS", NAMES, "More names by which clients may call the server.", "none"),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_HTTP_ALLOWED_ORIGINS",
            NAMES,
            "Web pages that may call the server, e.g. https://example.com, beside those of this machine.",
            "none",
        ),
    ] = ()
    max_sessions: Annotated[
        int, Setting("VLLM_HTTP_MAX_SESSIONS", POSITIVE, "Clients with a session at a time; the idlest goes first.")
    ] = 100
    session_idle_s: Annotated[
        float,
        Setting(
            "VLLM_HTTP_SESSION_IDLE",
            number(0, 30 * 86_400, exclusive_minimum=True),
            "Seconds until the session of a silent client ends.",
        ),
    ] = 3600.0


class EngineSettings(msgspec.Struct, frozen=True):
    """The model and how vLLM runs it."""

    model_name: Annotated[
        str, Setting("VLLM_MODEL_NAME", TEXT, "Hugging Face name or folder of the model.", "the bundled demo model")
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
            TEXT,
            "Folder of the models that Hugging Face has downloaded.",
            "`HF_HOME`/hub, or ~/.cache/huggingface/hub",
        ),
    ] = os.path.join("~", ".cache", "huggingface", "hub")
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


class MediaSettings(msgspec.Struct, frozen=True):
    """Which pictures, audio and videos are read, from where, and how large."""

    allowed_dirs: Annotated[
        tuple[str, ...] | None,
        Setting(
            "VLLM_ALLOWED_MEDIA_DIRS",
            FOLDERS,
            "Media files are read only below these folders.",
            "every folder, or over HTTP none",
        ),
    ] = None
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting("VLLM_ALLOWED_MEDIA_HOSTS", NAMES, "Hosts that may have a private address in URLs of media.", "none"),
    ] = ()
    max_image_bytes: Annotated[
        int, Setting("VLLM_MAX_IMAGE_BYTES", whole(1_000, 1 << 30), "Largest picture file or download.")
    ] = 20_000_000
    max_image_pixels: Annotated[
        int, Setting("VLLM_MAX_IMAGE_PIXELS", whole(1_000, 178_956_970), "Largest picture in pixels.")
    ] = 50_000_000
    longest_side: Annotated[
        int | None,
        Setting(
            "VLLM_IMAGE_LONGEST_SIDE",
            whole(64, 65_535),
            "Pixels of the longest side that the model uses; a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, "
            "never below this.",
            "every pixel is decoded",
        ),
    ] = None
    fetch_timeout_s: Annotated[
        float,
        Setting(
            "VLLM_IMAGE_FETCH_TIMEOUT",
            number(0, 600, exclusive_minimum=True),
            "Seconds for one download of a picture in all.",
        ),
    ] = 10.0
    max_audio_bytes: Annotated[
        int, Setting("VLLM_MAX_AUDIO_BYTES", whole(1_000, 1 << 30), "Largest audio file or download.")
    ] = 50_000_000
    max_audio_s: Annotated[
        float,
        Setting("OMNI_MAX_AUDIO_S", number(0, 3_600, exclusive_minimum=True), "Longest audio in seconds."),
    ] = 120.0
    max_video_bytes: Annotated[
        int, Setting("VLLM_MAX_VIDEO_BYTES", whole(1_000, 1 << 30), "Largest video file or download.")
    ] = 200_000_000
    video_fetch_timeout_s: Annotated[
        float,
        Setting(
            "VLLM_VIDEO_FETCH_TIMEOUT",
            number(0, 3_600, exclusive_minimum=True),
            "Seconds for one download of audio or video in all.",
        ),
    ] = 60.0


class OmniSettings(msgspec.Struct, frozen=True):
    """The vLLM-Omni servers that make pictures and videos, and where those are put."""

    url: Annotated[
        str, Setting("OMNI_URL", WEB_SERVER, "Address of the vLLM-Omni server that makes pictures (`--vllm-url`).")
    ] = "http://localhost:6655"
    api_key: Annotated[
        str | None, Setting("OMNI_API_KEY", TEXT, "Key that the vLLM-Omni server asks for, if it does.", "none")
    ] = None
    output_dir: Annotated[
        str | None,
        Setting(
            "OMNI_OUTPUT_DIR",
            FOLDER,
            "Folder of what is generated (`--output-dir`); made when first needed.",
            "generated_images in the working folder, or where that may not be written in the home folder",
        ),
    ] = None
    max_concurrent: Annotated[
        int | None,
        Setting(
            "OMNI_MAX_CONCURRENT",
            auto_or(whole(1, 64)),
            "Pictures generated at once (`--max-concurrent`); auto: from the GPU's measured memory, at most 4.",
            "auto",
        ),
    ] = None
    timeout_s: Annotated[
        float,
        Setting(
            "OMNI_TIMEOUT",
            number(0, 86_400, exclusive_minimum=True),
            "Seconds that the vLLM-Omni server may take for one picture (`--timeout`).",
        ),
    ] = 300.0
    profiles: Annotated[
        str | None,
        Setting("OMNI_PROFILES", FILE, "A JSON or TOML file with profiles of more models, or other figures.", "none"),
    ] = None
    video_url: Annotated[
        str | None,
        Setting("OMNI_VIDEO_URL", WEB_SERVER, "Address of the vLLM-Omni server that makes videos.", "OMNI_URL"),
    ] = None
    video_models: Annotated[
        dict[str, str],
        Setting(
            "OMNI_VIDEO_MODELS",
            NAMED_SERVERS,
            "More servers that make videos, by the name that a call gives as `model_type`.",
            "none",
        ),
    ] = {}
    video_timeout_s: Annotated[
        float,
        Setting(
            "OMNI_VIDEO_TIMEOUT",
            number(0, 7 * 86_400, exclusive_minimum=True),
            "Seconds that a vLLM-Omni server may take for one video.",
        ),
    ] = 3600.0
    job_ttl_s: Annotated[
        float,
        Setting("OMNI_JOB_TTL", number(1, 30 * 86_400), "Seconds for which a finished job stays listed."),
    ] = 86_400.0


class ProviderSettings(msgspec.Struct, frozen=True):
    """Services with more models for the tools of the family providers, and the files with settings."""

    env_file: Annotated[
        str | None,
        Setting(
            "VLLM_ENV_FILE",
            FILE,
            "A `.env` file with more of these variables; a variable that is set otherwise wins. No other is ever read.",
            "none",
        ),
    ] = None
    config_file: Annotated[
        str | None, Setting("VLLM_CONFIG_FILE", FILE, "A JSON file with more providers; see Providers.", "none")
    ] = None
    openai_api_key: Annotated[
        str | None, Setting("OPENAI_API_KEY", TEXT, "Key of the provider `openai`.", "none: not offered")
    ] = None
    openai_base_url: Annotated[
        str | None,
        Setting(
            "OPENAI_BASE_URL",
            WEB_SERVER,
            "Address of the provider `openai`; another server of that API may need no key.",
            "https://api.openai.com/v1",
        ),
    ] = None
    dashscope_api_key: Annotated[
        str | None, Setting("DASHSCOPE_API_KEY", TEXT, "Key of the provider `dashscope`.", "none: not offered")
    ] = None
    dashscope_base_url: Annotated[
        str | None,
        Setting(
            "DASHSCOPE_BASE_URL",
            WEB_SERVER,
            "Address of the provider `dashscope`: a key holds in its own region only.",
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
        ),
    ] = None
    max_text_bytes: Annotated[
        int,
        Setting(
            "VLLM_MAX_TEXT_BYTES",
            whole(1_000, 1 << 26),
            "Largest text file to attach; only from `VLLM_ALLOWED_MEDIA_DIRS`.",
        ),
    ] = 200_000


SECTIONS: dict[str, type[Any]] = {
    "server": ServerSettings,
    "http": HttpSettings,
    "engine": EngineSettings,
    "sampling": SamplingSettings,
    "sessions": SessionSettings,
    "media": MediaSettings,
    "omni": OmniSettings,
    "providers": ProviderSettings,
}


class Settings(msgspec.Struct, frozen=True):
    """All sections, and a sentence for each value that could not be used.

    `more_providers` are those of `VLLM_CONFIG_FILE`; `from_env_file` has the variables that `VLLM_ENV_FILE` adds, for
    the libraries that read the environment themselves.
    """

    server: ServerSettings
    http: HttpSettings
    engine: EngineSettings
    sampling: SamplingSettings
    sessions: SessionSettings
    media: MediaSettings
    omni: OmniSettings
    providers: ProviderSettings
    more_providers: "tuple[RemoteProvider, ...]" = ()
    from_env_file: dict[str, str] = {}
    problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Nothing of them: some are keys."""
        return f"Settings(problems={self.problems!r})"


class Row(msgspec.Struct, frozen=True):
    """One line of the settings table."""

    section: str
    variable: str
    default: str
    allowed: str
    meaning: str


def rows() -> Iterator[Row]:
    """The settings in their order, for the README and `--help`."""
    for section, cls in SECTIONS.items():
        defaults = cls()
        for name, entry in _entries(cls):
            default = entry.shown if entry.shown is not None else _shown(getattr(defaults, name))
            yield Row(section, entry.variable, default, entry.kind.allowed, entry.meaning)


def _entries(cls: type[Any]) -> Iterator[tuple[str, Setting]]:
    for name, annotation in cls.__annotations__.items():
        yield name, annotation.__metadata__[0]


def _shown(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def read(environment: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Settings:
    """Builds the settings from environment variables; `overrides` (from the command line) win."""
    problems: list[str] = []
    values = {**environment, **(overrides or {})}
    added: dict[str, str] = {}
    if values.get("VLLM_ENV_FILE", "").strip():
        from env_file import added_variables  # only where there is such a file

        added = added_variables(values, problems)
        values |= added
    if not values.get("HUGGING_FACE_HUB_TOKEN") and values.get("HF_TOKEN"):
        values["HUGGING_FACE_HUB_TOKEN"] = values["HF_TOKEN"]
    if not values.get("HF_HUB_CACHE", "").strip():
        values["HF_HUB_CACHE"] = _hf_hub_cache(values)
    sections = {name: cls(**_section_values(cls, values, problems)) for name, cls in SECTIONS.items()}
    more_providers: tuple[RemoteProvider, ...] = ()
    if (path := sections["providers"].config_file) is not None:
        from provider_settings import read_config_file  # only where there is such a file

        more_providers = read_config_file(path, values, problems)
    if sections["http"].transport != "stdio" and sections["media"].allowed_dirs is None:
        sections["media"] = msgspec.structs.replace(sections["media"], allowed_dirs=())
    return Settings(**sections, more_providers=more_providers, from_env_file=added, problems=tuple(problems))


def _hf_hub_cache(values: Mapping[str, str]) -> str:
    """Where huggingface_hub keeps its downloads, by its own rules; "" for the default."""
    if home := values.get("HF_HOME", "").strip():
        return os.path.join(home, "hub")
    if caches := values.get("XDG_CACHE_HOME", "").strip():
        return os.path.join(caches, "huggingface", "hub")
    return ""


def _section_values(cls: type[Any], values: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, entry in _entries(cls):
        text = values.get(entry.variable, "").strip()
        if not text:
            continue
        try:
            found[name] = entry.kind.parse(text)
        except (ValueError, OverflowError):
            shown = "not shown" if entry.kind.secret else _quoted(text)
            problems.append(f"The setting {entry.variable} is {shown}; allowed: {entry.kind.allowed}.")
    return found


def _quoted(text: str) -> str:
    """What a setting was, shortened and without what may be a password in a URL."""
    if "//" in text and "@" in text:
        text = text[: text.find("//") + 2] + "…" + text[text.rfind("@") :]
    return repr(text if len(text) <= 100 else text[:100] + "…")
