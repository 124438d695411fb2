"""How requests to other machines leave this one: whom to trust, and by which way."""

from typing import Annotated

import msgspec

from settings.kinds import FILE_OR_FOLDER, NAMES, PROXY, SEARCH_PATH, Setting


class NetworkSettings(msgspec.Struct, frozen=True):
    """Which certificates are trusted beside the well-known ones, and the proxy for providers and model servers."""

    ca_file: Annotated[
        str | None,
        Setting(
            "VLLM_CA_FILE",
            FILE_OR_FOLDER,
            "Certificates (PEM) of authorities to trust as well, for all https: providers, model servers, downloads.",
            "none",
        ),
    ] = None
    ssl_cert_file: Annotated[
        str | None,
        Setting("SSL_CERT_FILE", FILE_OR_FOLDER, "The same, by the name that OpenSSL's programs know.", "none"),
    ] = None
    ssl_cert_dir: Annotated[
        str | None,
        Setting(
            "SSL_CERT_DIR", SEARCH_PATH, "The same, as folders of certificates that `openssl rehash` has named.", "none"
        ),
    ] = None
    proxy_url: Annotated[
        str | None,
        Setting(
            "VLLM_PROXY_URL",
            PROXY,
            "Proxy to providers, and to the servers of `VLLM_BASE_URL` and `OMNI_URL`. Downloads of media never use "
            "one, and those of the environment, such as `HTTPS_PROXY`, are not used.",
            "none",
        ),
    ] = None
    no_proxy: Annotated[
        tuple[str, ...],
        Setting("VLLM_NO_PROXY", NAMES, "Hosts to reach without that proxy, `.example.com` for all below it.", "none"),
    ] = ()
