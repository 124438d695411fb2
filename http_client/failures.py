"""Why a connection was not made or not kept, told so that the right thing is blamed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from http_client.words import plain

CA_SETTINGS = "VLLM_CA_FILE (or SSL_CERT_FILE)"
_EXPIRED, _NOT_YET, _OTHER_NAME = {10}, {9}, {62, 64}
"""OpenSSL's numbers of what is wrong with a certificate; all others mean that nobody trusted vouches for it."""


class TrustProblem(Exception):
    """The setting of the trusted certificates cannot be used; `str()` is a sentence for the caller."""


class Trouble(StrEnum):
    """What is wrong with a connection."""

    CERTIFICATE = "certificate"
    """The server's is not trusted."""
    NO_TLS = "no tls"
    """There is no https at that address, or none that this machine speaks."""
    PROXY = "proxy"
    """The proxy of VLLM_PROXY_URL does not answer, or does not let the request through."""
    NO_HOST = "no host"
    """Nobody knows the host's name."""
    UNREACHABLE = "unreachable"
    """Nobody answers there."""
    TIMEOUT = "timeout"
    """An open connection was silent for too long."""
    LOST = "lost"
    """It broke in the middle."""
    TRUST = "trust"
    """The setting of the trusted certificates cannot be used."""


class ConnectionFailure(msgspec.Struct, frozen=True):
    """A failed connection: what is wrong, and for all but `UNREACHABLE`, `TIMEOUT` and `LOST`, whose texts belong to
    the caller, a sentence that says it and what to do."""

    trouble: Trouble
    text: str = ""


def failure_of(
    error: BaseException, url: str, address_setting: str, server: str = "server", through_proxy: bool = False
) -> ConnectionFailure:
    """What an exception of httpx, httpcore, ssl or the system means.

    Arguments: the exception; the server's address as it may be shown; the setting that has it; what to call the
    server; whether the request went through the proxy.
    """
    if isinstance(error, TrustProblem):
        return ConnectionFailure(Trouble.TRUST, str(error))
    name = type(error).__name__
    if name == "ProxyError":
        return ConnectionFailure(Trouble.PROXY, _proxy_refused(plain(str(error))))
    if name == "ConnectTimeout" or name in ("UnsupportedProtocol", "InvalidURL"):
        return _nobody(through_proxy)
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
                f"The {server} at {url} does not speak https, or not as this machine does. If it is plain http there, "
                f"write http:// in {address_setting}.",
            )
        if isinstance(cause, socket.gaierror) and not through_proxy:
            return ConnectionFailure(
                Trouble.NO_HOST,
                f"Cannot connect to the {server} at {url}: nobody knows a host of that name. Check "
                f"{address_setting}, and whether this machine is online.",
            )
    if "certificate" in str(error).lower():
        return ConnectionFailure(Trouble.CERTIFICATE, _untrusted(0, url, address_setting, server))
    return _nobody(through_proxy)


def _untrusted(code: int, url: str, address_setting: str, server: str) -> str:
    said = f"The certificate of the {server} at {url} cannot be verified"
    if code in _EXPIRED:
        return f"{said}: it has expired. Renew it, and check this machine's clock."
    if code in _NOT_YET:
        return f"{said}: it does not hold yet. Check this machine's clock."
    if code in _OTHER_NAME:
        return f"{said}: it is for another name. Write the name that it is for in {address_setting}."
    return (
        f"{said}: it is not trusted, since no authority that is known here has signed it. Set {CA_SETTINGS} to a file "
        "with the certificate of the authority that did, or on a network of your own use http."
    )


def _nobody(through_proxy: bool) -> ConnectionFailure:
    if through_proxy:
        return ConnectionFailure(
            Trouble.PROXY, "Cannot connect to the proxy of VLLM_PROXY_URL. Check its address, or leave it empty."
        )
    return ConnectionFailure(Trouble.UNREACHABLE)


def _proxy_refused(said: str) -> str:
    words = f" ({said})" if said else ""
    if said.startswith("407"):
        return f"The proxy of VLLM_PROXY_URL asks for a user and a password{words}: http://user:password@host:port."
    return (
        f"The proxy of VLLM_PROXY_URL does not let this through{words}. VLLM_NO_PROXY names hosts to reach without it."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that led to it."""
    seen = 0
    while error is not None and seen < 12:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
