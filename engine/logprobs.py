"""vLLM's log-probabilities as ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.interface import TokenLogprob


def token_logprobs(positions: Iterable[Mapping[int, Any]], n_top: int) -> tuple[TokenLogprob, ...]:
    """The log-probabilities of an answer's tokens.

    Arguments: `positions`, one mapping of token ids to vLLM's `Logprob` for each token, the chosen one first; `n_top`,
    how many of the likeliest to tell with each.
    """
    return tuple(_token(list(position.values()), n_top) for position in positions)


def _token(logprobs: list[Any], n_top: int) -> TokenLogprob:
    ranked = sorted((logprob for logprob in logprobs if logprob.rank <= n_top), key=lambda logprob: logprob.rank)
    chosen = logprobs[0]
    return TokenLogprob(
        chosen.decoded_token or "",
        chosen.logprob,
        tuple(TokenLogprob(logprob.decoded_token or "", logprob.logprob) for logprob in ranked[:n_top]),
    )
