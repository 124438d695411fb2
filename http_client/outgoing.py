"""The way out of this machine: which certificates are trusted, and whether a proxy is used."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import threading
from typing import TYPE_CHECKING, Any

from http_client.addresses import host_of
from http_client.failures import TrustProblem
from settings import NetworkSettings

if TYPE_CHECKING:
    import ssl

    import httpx


class Outgoing:
    """Makes the clients of all servers. Any thread may use it; making it costs nothing.

    The well-known authorities are always trusted; those of the settings come beside them. A proxy is used only where a
    setting of ours names it: those of the environment are meant for other programs, and would silently get keys and
    prompts. It is not used for this machine's own servers, unless it is on this machine too.
    """

    def __init__(self, settings: NetworkSettings | None = None) -> None:
        self._settings = settings if settings is not None else NetworkSettings()
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def tls_context(self) -> ssl.SSLContext:
        """What TLS connections to others begin with, made once.

        Raises: `TrustProblem` where the file of VLLM_CA_FILE cannot be used. `SSL_CERT_FILE` and `SSL_CERT_DIR` are
        often left over from other programs, so what is wrong with them only shows when a certificate is not trusted.
        """
        with self._lock:
            if self._context is None:
                self._context = self._made()
            return self._context

    def proxy_for(self, address: str) -> str | None:
        """The proxy that requests to a server go through; `None` for none."""
        proxy, host = self._settings.proxy_url, host_of(address)
        if proxy is None or any(_is_below(host, entry) for entry in self._settings.no_proxy):
            return None
        return None if _is_here(host) and not _is_here(host_of(proxy)) else proxy

    def client(self, address: str, **rest: Any) -> httpx.AsyncClient:
        """A client for one server. Nothing of the environment changes where its requests go.

        Arguments: the server's address; the client's others, such as `headers`, `timeout` and `limits`.
        Raises: `TrustProblem`.
        """
        import ssl

        import httpx

        proxy = self.proxy_for(address)
        is_secure = address.lower().startswith("https:")
        # Over http nothing is verified, so a file that cannot be read must not stop it.
        verify = self.tls_context() if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        way = None
        if proxy is not None:
            way = httpx.Proxy(proxy, ssl_context=self.tls_context() if proxy.startswith("https:") else None)
        return httpx.AsyncClient(verify=verify, proxy=way, trust_env=False, **rest)

    def _made(self) -> ssl.SSLContext:
        import ssl

        import certifi

        context = ssl.create_default_context(cafile=certifi.where())
        settings = self._settings
        if settings.ca_file is not None:
            try:
                _load(context, settings.ca_file)
            except (OSError, ValueError) as error:
                raise TrustProblem(
                    f"The file of VLLM_CA_FILE cannot be used ({_why(error)}). Set it to a PEM file with the "
                    "authority's certificate."
                ) from None
        folders = (settings.ssl_cert_dir or "").split(os.pathsep)
        for path in (settings.ssl_cert_file, *folders):
            if path:
                with contextlib.suppress(OSError, ValueError):
                    _load(context, os.path.expanduser(path))
        if settings.ca_file or settings.ssl_cert_file or settings.ssl_cert_dir:
            # Python 3.13 asks more of certificates than OpenSSL does, and than those of many companies have.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def _load(context: ssl.SSLContext, path: str) -> None:
    """Adds a file's certificates, or a folder's."""
    if os.path.isdir(path):
        context.load_verify_locations(capath=path)
    else:
        context.load_verify_locations(cafile=path)


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, PermissionError):
        return "it may not be read"
    return "it has no certificate in PEM form"


def _is_below(host: str, entry: str) -> bool:
    entry = entry.strip().lower()
    name = entry.lstrip("*").lstrip(".")
    return entry == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
