"""The vLLM-Omni servers, and where their pictures and videos go."""

from typing import Annotated

import msgspec

from settings.kinds import FILE, FILE_MODE, FOLDER, NAMED_SERVERS, TEXT, WEB_SERVER, Setting, auto_or, number, whole


class OmniSettings(msgspec.Struct, frozen=True):
    """The vLLM-Omni servers that make pictures and videos, and where those are put."""

    url: Annotated[
        str,
        Setting(
            "OMNI_URL",
            WEB_SERVER,
            "Address of the vLLM-Omni server that makes pictures, with `/v1` or without (`--vllm-url`).",
        ),
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
    file_mode: Annotated[
        str,
        Setting(
            "OMNI_FILE_MODE",
            FILE_MODE,
            "Rights of the files that are generated, for containers and shared folders; folders that are made have the "
            "same, and may be entered by whoever may read.",
        ),
    ] = "0600"
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
        Setting(
            "OMNI_VIDEO_URL",
            WEB_SERVER,
            "Address of the vLLM-Omni server that makes videos, with `/v1` or without.",
            "OMNI_URL",
        ),
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
