"""The causes of failed connections, and messages that name the right setting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from http_client.redaction import plain

CA_SETTINGS = "VLLM_CA_FILE (or SSL_CERT_FILE)"
_EXPIRED, _NOT_YET, _OTHER_NAME = {10}, {9}, {62, 64}
"""OpenSSL's error numbers for certificates; all others mean that no trusted authority signed it."""


class TrustProblem(Exception):
    """The file of trusted certificates cannot be used; `str()` is a sentence for the caller."""


class Trouble(StrEnum):
    """The cause of a failed connection."""

    CERTIFICATE = "certificate"
    """The server's certificate is not trusted."""
    NO_TLS = "no tls"
    """The server does not use TLS, or no version that this machine supports."""
    PROXY = "proxy"
    """The proxy of VLLM_PROXY_URL does not respond, or rejects the request."""
    NO_HOST = "no host"
    """The host name cannot be resolved."""
    UNREACHABLE = "unreachable"
    """There is no server at the address."""
    TIMEOUT = "timeout"
    """No data arrived in time."""
    LOST = "lost"
    """The connection broke."""
    TRUST = "trust"
    """The file of trusted certificates cannot be used."""


class ConnectionFailure(msgspec.Struct, frozen=True):
    """A failed connection.

    Attributes: `text` says what to do; it is "" for `UNREACHABLE`, `TIMEOUT` and `LOST`, whose texts the caller has.
    """

    trouble: Trouble
    text: str = ""


def failure_of(
    error: BaseException, url: str, address_setting: str, server: str = "server", through_proxy: bool = False
) -> ConnectionFailure:
    """The failure behind an exception of httpx, httpcore, ssl or the system.

    Arguments:
        error: the exception.
        url: the server's address for the message.
        address_setting: the setting with the address.
        server: how the message names the server.
        through_proxy: whether the request went through the proxy.
    """
    if isinstance(error, TrustProblem):
        return ConnectionFailure(Trouble.TRUST, str(error))
    name = type(error).__name__
    if name == "ProxyError":
        return ConnectionFailure(Trouble.PROXY, _proxy_refused(plain(str(error))))
    if name == "ConnectTimeout" or name in ("UnsupportedProtocol", "InvalidURL"):
        return _unreachable(through_proxy)
    if name in ("ReadTimeout", "WriteTimeout", "PoolTimeout") or isinstance(error, TimeoutError):
        return ConnectionFailure(Trouble.TIMEOUT)
    if name == "ConnectError" or isinstance(error, OSError):
        return _not_connected(error, url, address_setting, server, through_proxy)
    return ConnectionFailure(Trouble.LOST)


def _not_connected(
    error: BaseException, url: str, address_setting: str, server: str, through_proxy: bool
) -> ConnectionFailure:
    import ssl

    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConnectionFailure(Trouble.CERTIFICATE, _untrusted(cause.verify_code, url, address_setting, server))
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return ConnectionFailure(
                Trouble.NO_TLS,
                f"The {server} at {url} does not use https, or no version that this machine supports. If it uses http, "
                f"write http:// in {address_setting}.",
            )
        if isinstance(cause, socket.gaierror) and not through_proxy:
            return ConnectionFailure(
                Trouble.NO_HOST,
                f"Cannot connect to the {server} at {url}: the host name is unknown. Check "
                f"{address_setting}, and whether this machine is online.",
            )
    if "certificate" in str(error).lower():
        return ConnectionFailure(Trouble.CERTIFICATE, _untrusted(0, url, address_setting, server))
    return _unreachable(through_proxy)


def _untrusted(code: int, url: str, address_setting: str, server: str) -> str:
    text = f"The certificate of the {server} at {url} cannot be verified"
    if code in _EXPIRED:
        return f"{text}: it has expired. Renew it, and check this machine's clock."
    if code in _NOT_YET:
        return f"{text}: it is not valid yet. Check this machine's clock."
    if code in _OTHER_NAME:
        return f"{text}: it is for another name. Write that name in {address_setting}."
    return (
        f"{text}: it is not trusted, since no known authority has signed it. Set {CA_SETTINGS} to a file with the "
        "certificate of the authority that did, or use http in your own network."
    )


def _unreachable(through_proxy: bool) -> ConnectionFailure:
    if through_proxy:
        return ConnectionFailure(
            Trouble.PROXY, "Cannot connect to the proxy of VLLM_PROXY_URL. Check its address, or leave it empty."
        )
    return ConnectionFailure(Trouble.UNREACHABLE)


def _proxy_refused(reason: str) -> str:
    words = f" ({reason})" if reason else ""
    if reason.startswith("407"):
        return f"The proxy of VLLM_PROXY_URL requires a user and a password{words}: http://user:password@host:port."
    return f"The proxy of VLLM_PROXY_URL rejects this request{words}. VLLM_NO_PROXY names hosts to reach without it."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes, 12 at most."""
    for _ in range(12):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
