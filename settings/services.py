"""Services on other machines: providers of models, certificates and proxies; and the files that hold settings."""

from typing import Annotated

import msgspec

from settings.kinds import FILE, FILE_OR_FOLDER, NAMES, PROXY, SEARCH_PATH, TEXT, WEB_SERVER, Setting


class ProviderSettings(msgspec.Struct, frozen=True):
    """The providers of the tool family `providers`, and the files that hold settings."""

    env_file: Annotated[
        str | None,
        Setting(
            "VLLM_ENV_FILE",
            FILE,
            "A `.env` file with more of these variables; variables that are set otherwise win. No other `.env` file is "
            "read.",
        ),
    ] = None
    config_file: Annotated[
        str | None, Setting("VLLM_CONFIG_FILE", FILE, "JSON file with further providers; see Providers.")
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
            "Address of the provider `dashscope`; a key is valid in one region only.",
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
        ),
    ] = None


class NetworkSettings(msgspec.Struct, frozen=True):
    """Trusted certificates besides the well-known ones, and the proxy to providers and model servers."""

    ca_file: Annotated[
        str | None,
        Setting(
            "VLLM_CA_FILE",
            FILE_OR_FOLDER,
            "PEM file or folder with further trusted certificate authorities, for providers, model servers and "
            "downloads; those of OpenSSL's variables `SSL_CERT_FILE` and `SSL_CERT_DIR` are trusted too.",
        ),
    ] = None
    ssl_cert_file: Annotated[str | None, Setting("SSL_CERT_FILE", FILE_OR_FOLDER, "See `VLLM_CA_FILE`.")] = None
    ssl_cert_dir: Annotated[str | None, Setting("SSL_CERT_DIR", SEARCH_PATH, "See `VLLM_CA_FILE`.")] = None
    proxy_url: Annotated[
        str | None,
        Setting(
            "VLLM_PROXY_URL",
            PROXY,
            "Proxy to providers, and to the servers of `VLLM_BASE_URL` and `OMNI_URL`; media downloads use no proxy, "
            "and `HTTPS_PROXY` and the like are ignored.",
        ),
    ] = None
    no_proxy: Annotated[
        tuple[str, ...],
        Setting("VLLM_NO_PROXY", NAMES, "Hosts reached without that proxy; `.example.com` includes subdomains."),
    ] = ()
