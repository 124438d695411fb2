"""The vLLM-Omni servers, and the files of what they generate."""

from typing import Annotated

import msgspec
from msgspec import Meta

from settings.kinds import (
    FILE,
    FILE_MODE,
    FOLDER,
    NAMED_SERVERS,
    TEXT,
    WEB_SERVER,
    Kind,
    Setting,
    auto_or,
    named_texts,
    number,
    positive,
    whole,
)


class ImageLora(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A LoRA adapter: its folder on the image server's machine, and the factor of its effect."""

    path: Annotated[str, Meta(min_length=1)]
    scale: Annotated[float, Meta(ge=-10, le=10)] = 1.0


def _named_loras(text: str) -> dict[str, ImageLora]:
    """The paths stay as they are: they belong to the server's machine."""
    found = msgspec.json.decode(text, type=dict[str, str | ImageLora]) if text.startswith("{") else named_texts(text)
    adapters = {name: ImageLora(value) if isinstance(value, str) else value for name, value in found.items()}
    if not all(name.strip() and adapter.path for name, adapter in adapters.items()):
        raise ValueError(text)
    return adapters


NAMED_LORAS = Kind(
    "name=folder pairs with different names, separated by commas or spaces, or a JSON object such as "
    '{"ink": "/loras/ink", "soft": {"path": "/loras/soft", "scale": 0.5}}',
    _named_loras,
)


class OmniSettings(msgspec.Struct, frozen=True):
    """The vLLM-Omni servers that generate images, videos and speech, and where the files are saved."""

    url: Annotated[
        str,
        Setting(
            "OMNI_URL", WEB_SERVER, "Address of the vLLM-Omni server for images, with `/v1` or without (`--vllm-url`)."
        ),
    ] = "http://localhost:6655"
    api_key: Annotated[str | None, Setting("OMNI_API_KEY", TEXT, "Key for the vLLM-Omni servers.")] = None
    output_dir: Annotated[
        str | None,
        Setting(
            "OMNI_OUTPUT_DIR",
            FOLDER,
            "Folder for generated files (`--output-dir`), created when first needed.",
            "generated_images in the working folder, or in the home folder if the working folder is not writable",
        ),
    ] = None
    file_mode: Annotated[
        str,
        Setting(
            "OMNI_FILE_MODE",
            FILE_MODE,
            "Permissions of generated files, for containers and shared folders; new folders get the same, and whoever "
            "may read them may also enter them.",
        ),
    ] = "0600"
    max_concurrent: Annotated[
        int | None,
        Setting(
            "OMNI_MAX_CONCURRENT",
            auto_or(whole(1, 64)),
            "Images generated at once (`--max-concurrent`); auto: computed from the GPU's memory, at most 4.",
            "auto",
        ),
    ] = None
    timeout_s: Annotated[
        float,
        Setting(
            "OMNI_TIMEOUT", positive(86_400), "Longest generation of one image or speech in seconds (`--timeout`)."
        ),
    ] = 300.0
    profiles: Annotated[
        str | None, Setting("OMNI_PROFILES", FILE, "JSON or TOML file with profiles of further image models.")
    ] = None
    lora_modules: Annotated[
        dict[str, ImageLora],
        Setting(
            "OMNI_LORA_MODULES",
            NAMED_LORAS,
            "LoRA adapters for images, which calls select by name (`lora`); the folders are on the image server's "
            "machine.",
        ),
    ] = {}
    video_url: Annotated[
        str | None,
        Setting(
            "OMNI_VIDEO_URL",
            WEB_SERVER,
            "Address of the vLLM-Omni server for videos, with `/v1` or without.",
            "OMNI_URL",
        ),
    ] = None
    video_models: Annotated[
        dict[str, str],
        Setting(
            "OMNI_VIDEO_MODELS",
            NAMED_SERVERS,
            "Further vLLM-Omni servers for videos, by the `model_type` that a call gives.",
        ),
    ] = {}
    video_timeout_s: Annotated[
        float, Setting("OMNI_VIDEO_TIMEOUT", positive(7 * 86_400), "Longest generation of one video in seconds.")
    ] = 3600.0
    speech_url: Annotated[
        str | None,
        Setting(
            "OMNI_SPEECH_URL",
            WEB_SERVER,
            "Address of the vLLM-Omni server for speech, with `/v1` or without.",
            "OMNI_URL",
        ),
    ] = None
    job_ttl_s: Annotated[
        float, Setting("OMNI_JOB_TTL", number(1, 30 * 86_400), "Seconds for which a finished job stays listed.")
    ] = 86_400.0
