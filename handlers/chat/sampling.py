"""The sampling arguments that the chat tools share, in OpenAI's and vLLM's names and ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.interface import Sampling
from mcp_protocol.tools.toolbox import MAX_TIMEOUT_S, ArgumentError

if TYPE_CHECKING:
    from settings import SamplingSettings

MAX_SEED = 2**53 - 1
"""The largest integer that every JSON client represents exactly (RFC 8259, section 6)."""

StopString = Annotated[str, Meta(min_length=1, max_length=256)]


class SamplingArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Sampling; what is left out gets the server's default."""

    temperature: Annotated[float, Meta(ge=0, le=2, description="0: always the likeliest token.")] | None = None
    max_tokens: Annotated[int, Meta(ge=1, description="Longest reply, in tokens.")] | None = None
    min_tokens: Annotated[int, Meta(ge=0, description="Shortest reply, in tokens.")] = 0
    ignore_eos: Annotated[bool, Meta(description="Generate max_tokens even if the model ends earlier.")] = False
    top_p: Annotated[float, Meta(gt=0, le=1, description="Nucleus sampling.")] | None = None
    top_k: Annotated[int, Meta(ge=-1, description="Only the k likeliest tokens; -1: off.")] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1, description="Minimum probability, relative to the likeliest.")] = 0.0
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED, description="The same seed gives the same reply.")] | None = None
    stop: Annotated[
        StopString | Annotated[list[StopString], Meta(max_length=16)] | None,
        Meta(description="Texts that end the reply."),
    ] = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0, le=10, description="Above 1: fewer repetitions.")] = 1.0
    timeout_s: (
        Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S, description="Seconds after which the text so far is returned.")]
        | None
    ) = None


def sampling_of(arguments: SamplingArguments, defaults: SamplingSettings) -> Sampling:
    """The engine's sampling for a call; raises `ArgumentError` if two arguments contradict each other."""
    max_tokens = arguments.max_tokens if arguments.max_tokens is not None else defaults.max_tokens
    if arguments.top_k == 0:
        raise ArgumentError("arguments.top_k: expected -1 (off) or an integer ≥ 1, got 0")
    if arguments.min_tokens > max_tokens:
        raise ArgumentError(f"arguments.min_tokens: {arguments.min_tokens} is more than max_tokens ({max_tokens})")
    stop = (arguments.stop,) if isinstance(arguments.stop, str) else tuple(arguments.stop or ())
    return Sampling(
        temperature=arguments.temperature if arguments.temperature is not None else defaults.temperature,
        max_tokens=max_tokens,
        min_tokens=arguments.min_tokens,
        ignore_eos=arguments.ignore_eos,
        top_p=arguments.top_p if arguments.top_p is not None else defaults.top_p,
        top_k=arguments.top_k if arguments.top_k is not None else defaults.top_k,
        min_p=arguments.min_p,
        seed=arguments.seed,
        stop=stop,
        presence_penalty=arguments.presence_penalty,
        frequency_penalty=arguments.frequency_penalty,
        repetition_penalty=arguments.repetition_penalty,
    )
