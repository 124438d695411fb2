"""Services with more models, and the files that settings may stand in."""

from typing import Annotated

import msgspec

from settings.kinds import FILE, TEXT, WEB_SERVER, Setting, whole


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
