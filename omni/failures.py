"""What a server's refusal means for a generation: the server's own reason, and whom to ask for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from http_client.refusals import Blame, Refusal, refusal
from omni.errors import KeyRefused, ModelChanged, ServerFailed, ServerOutOfMemory, ServerRefused

_GATEWAYS = (408, 502, 504)
"""Statuses of whoever stands before the server: what it does goes on behind them."""
_NOT_BEGUN = (429, 503)


def failure(
    status: int, data: bytes | Any, headers: Mapping[str, str] | None = None, key: str | None = None
) -> ServerRefused | ServerFailed:
    """The error for an answer with this status.

    Arguments: its body, as bytes or decoded; its headers; the key that was sent, which is never shown.
    """
    return told(refusal(status, headers, data, (key,)), key)


def told(found: Refusal, key: str | None = None) -> ServerRefused | ServerFailed:
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
        return ServerFailed(f"The vLLM server answered with an error{words}")
    if found.said.startswith("Model mismatch"):
        return ModelChanged("The vLLM server serves another model by now. Try again.")
    if found.blame is Blame.KEY:
        kind = KeyRefused if status == 401 else ServerRefused
        if key is None:
            return kind(f"The vLLM server asks for a key (HTTP {status}){words} Set OMNI_API_KEY.")
        return kind(
            f"The vLLM server does not take the key (HTTP {status}){words} Set OMNI_API_KEY to one that it knows."
        )
    if found.blame is Blame.PROXY:
        return ServerRefused(f"The proxy before the vLLM server asks for a password (HTTP {status}){words}")
    if status == 403:
        return ServerRefused(f"The vLLM server forbids this (HTTP 403){words}")
    if found.blame is Blame.ADDRESS:
        return ServerRefused(f"The vLLM server does not offer this (HTTP {status}){words} Is it a vLLM-Omni server?")
    if status == 429:
        return ServerRefused(f"The vLLM server has too many requests (HTTP 429){words} Try again in a moment.")
    if status in _GATEWAYS:
        return ServerFailed(
            f"The vLLM server, or what stands before it, gave up waiting (HTTP {status}){words} What was asked for may "
            "still be in the making there."
        )
    if status == 503:
        return ServerFailed(
            f"The vLLM server is not ready, or cannot do this (HTTP 503){words} Check with `server_health` tool."
        )
    if status < 500:
        return ServerRefused(f"The vLLM server refused the request (HTTP {status}){words}")
    return ServerFailed(f"The vLLM server failed (HTTP {status}){words}")
