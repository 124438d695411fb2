"""HTTP clients for all servers: which certificates are trusted, and whether a proxy is used."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from http_client.addresses import host_of, is_loopback
from http_client.failures import TrustProblem
from settings import NetworkSettings

if TYPE_CHECKING:
    import ssl

    import httpx


class Outgoing:
    """Makes HTTP clients. Any thread may use it.

    The well-known authorities are always trusted, and those of the settings in addition. Only the proxy of our own
    setting is used: a proxy in the environment is meant for other programs, and would get keys and prompts. Servers on
    this machine are reached without a proxy, unless the proxy is on this machine too.
    """

    def __init__(self, settings: NetworkSettings | None = None) -> None:
        self._settings = settings if settings is not None else NetworkSettings()
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def tls_context(self) -> ssl.SSLContext:
        """The TLS context of all connections, made once.

        `SSL_CERT_FILE` and `SSL_CERT_DIR` are often leftovers of other programs, so errors in them are ignored.

        Raises: `TrustProblem` where VLLM_CA_FILE cannot be used.
        """
        with self._lock:
            if self._context is None:
                self._context = self._made()
            return self._context

    def proxy_for(self, address: str) -> str | None:
        """The proxy for requests to a server; `None` for a direct connection."""
        proxy, host = self._settings.proxy_url, host_of(address)
        if proxy is None or any(_is_below(host, entry) for entry in self._settings.no_proxy):
            return None
        return None if is_loopback(host) and not is_loopback(host_of(proxy)) else proxy

    def client(self, address: str, **rest: Any) -> httpx.AsyncClient:
        """A client for one server. It ignores proxies and netrc of the environment.

        Arguments:
            address: the server's address.
            rest: other arguments of `httpx.AsyncClient`.

        Raises: `TrustProblem`.
        """
        import ssl

        import httpx

        proxy = self.proxy_for(address)
        is_secure = address.lower().startswith("https:")
        # http verifies nothing, so an unreadable certificate file must not stop it.
        verify = self.tls_context() if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        through = None
        if proxy is not None:
            through = httpx.Proxy(proxy, ssl_context=self.tls_context() if proxy.startswith("https:") else None)
        return httpx.AsyncClient(verify=verify, proxy=through, trust_env=False, **rest)

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
            # Python 3.13 is stricter than OpenSSL, and rejects the certificates of many companies.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def _load(context: ssl.SSLContext, path: str) -> None:
    """Adds the certificates of a file or a folder."""
    if os.path.isdir(path):
        context.load_verify_locations(capath=path)
    else:
        context.load_verify_locations(cafile=path)


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, PermissionError):
        return "permission denied"
    return "it contains no certificate in PEM format"


def _is_below(host: str, entry: str) -> bool:
    entry = entry.strip().lower()
    name = entry.lstrip("*").lstrip(".")
    return entry == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))
