"""The errors for the error responses of a vLLM-Omni server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from http_client.refusals import Blame, Refusal, refusal
from omni.errors import KeyRefused, ModelChanged, ServerFailed, ServerOutOfMemory, ServerRefused

_GATEWAYS = (408, 502, 504)
"""Statuses of a gateway: the server behind it may continue."""
_NOT_BEGUN = (429, 503)


def failure(
    status: int, data: bytes | Any, headers: Mapping[str, str] | None = None, key: str | None = None
) -> ServerRefused | ServerFailed:
    """The error for an error response.

    Arguments:
        status: the HTTP status.
        data: the body, as bytes or decoded.
        headers: the headers.
        key: the key that was sent, which no message contains.
    """
    return error_of(refusal(status, headers, data, (key,)), key)


def error_of(found: Refusal, key: str | None = None) -> ServerRefused | ServerFailed:
    """The error for a refusal."""
    error = _error(found, key)
    error.not_begun = found.status in _NOT_BEGUN
    error.retry_after_s = found.retry_after_s
    return error


def _error(found: Refusal, key: str | None) -> ServerRefused | ServerFailed:
    status, words = found.status, found.words
    if found.blame is Blame.MEMORY:
        return ServerOutOfMemory()
    if status == 200:
        return ServerFailed(f"The vLLM server responded with an error{words}")
    if found.said.startswith("Model mismatch"):
        return ModelChanged("The vLLM server now serves another model. Try again.")
    if found.blame is Blame.KEY:
        kind = KeyRefused if status == 401 else ServerRefused
        if key is None:
            return kind(f"The vLLM server requires a key (HTTP {status}){words} Set OMNI_API_KEY.")
        return kind(f"The vLLM server does not accept the key (HTTP {status}){words} Set OMNI_API_KEY to a valid one.")
    if found.blame is Blame.PROXY:
        return ServerRefused(f"The proxy in front of the vLLM server requires a password (HTTP {status}){words}")
    if status == 403:
        return ServerRefused(f"The vLLM server forbids this (HTTP 403){words}")
    if found.blame is Blame.ADDRESS:
        return ServerRefused(f"The vLLM server does not offer this (HTTP {status}){words} Is it a vLLM-Omni server?")
    if status == 429:
        return ServerRefused(f"The vLLM server has too many requests (HTTP 429){words} Try again in a moment.")
    if status in _GATEWAYS:
        return ServerFailed(
            f"The vLLM server, or a gateway in front of it, timed out (HTTP {status}){words} The server may still be "
            "generating."
        )
    if status == 503:
        return ServerFailed(
            f"The vLLM server is not ready, or cannot do this (HTTP 503){words} Check with `server_health` tool."
        )
    if status < 500:
        return ServerRefused(f"The vLLM server refused the request (HTTP {status}){words}")
    return ServerFailed(f"The vLLM server failed (HTTP {status}){words}")
