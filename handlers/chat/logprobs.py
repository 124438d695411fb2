"""Log-probabilities in OpenAI's format: the arguments that request them, and their part of the result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from mcp_protocol.tools.toolbox import ArgumentError

if TYPE_CHECKING:
    from engine.interface import Completion, TokenLogprob

MAX_TOP_LOGPROBS = 20
"""OpenAI's limit, and vLLM's default of `max_logprobs`."""
DECIMALS = 6
"""float32 has no more exact digits, and every digit adds up in a result with thousands of numbers."""


LogprobsArgument = Annotated[bool, Meta(description="Also return log-probabilities.")]
TopLogprobsArgument = Annotated[
    int,
    Meta(ge=0, le=MAX_TOP_LOGPROBS, description="Likeliest tokens to return for each; needs logprobs."),
]


class TopLogprob(msgspec.Struct, frozen=True):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(msgspec.Struct, frozen=True):
    """One token of the reply; logprob is null if the model gave it probability 0 and response_format forced it."""

    token: str
    logprob: float | None
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Logprobs(msgspec.Struct, frozen=True):
    """Natural logarithms of the model's own probabilities, before temperature and response_format apply."""

    content: list[TokenLogprobs]


def n_logprobs(logprobs: bool, top_logprobs: int | None) -> int | None:
    """How many alternatives per token the engine returns, `None` for no log-probabilities at all.

    Raises: `ArgumentError` if alternatives are requested without log-probabilities.
    """
    if logprobs:
        return top_logprobs or 0
    if top_logprobs is not None:
        raise ArgumentError("arguments.top_logprobs: needs logprobs to be true")
    return None


def logprobs_of(completion: Completion) -> Logprobs | None:
    """A completion's log-probabilities as results contain them."""
    if completion.logprobs is None:
        return None
    return Logprobs([_token(entry) for entry in completion.logprobs])


def _token(entry: TokenLogprob) -> TokenLogprobs:
    return TokenLogprobs(
        token=entry.token,
        logprob=round(entry.logprob, DECIMALS) if math.isfinite(entry.logprob) else None,
        bytes=_bytes(entry.token),
        top_logprobs=[
            TopLogprob(top.token, round(top.logprob, DECIMALS), _bytes(top.token))
            for top in entry.top
            if math.isfinite(top.logprob)
        ],
    )


def _bytes(token: str) -> list[int]:
    return list(token.encode("utf-8", "replace"))
