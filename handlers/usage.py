"""Tokens and time that a call used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from engine.interface import Completion

if TYPE_CHECKING:
    from mcp_protocol.calls.call import Call


class Usage(msgspec.Struct, frozen=True):
    """Tokens as vLLM counted them; null if it did not."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None
    image_tokens: int | None
    audio_tokens: int | None
    video_tokens: int | None


class Timings(msgspec.Struct, frozen=True):
    """Milliseconds in the queue, loading the model, until the first token after that, and in total."""

    queue_ms: float
    load_ms: float
    first_token_ms: float | None
    total_ms: float


class Stopwatch:
    """Measures the phases of a call."""

    def __init__(self, call: Call) -> None:
        self._arrived_s = call.arrived_s
        self._queued_s = call.queued_s
        self._started_s = time.monotonic()
        self.load_s = 0.0

    def timings(self, first_token_ms: float | None) -> Timings:
        """The times until now."""
        return Timings(
            queue_ms=_ms(self._started_s - self._queued_s),
            load_ms=_ms(self.load_s),
            first_token_ms=None if first_token_ms is None else round(first_token_ms, 3),
            total_ms=_ms(time.monotonic() - self._arrived_s),
        )


def usage_of(completions: list[Completion]) -> Usage:
    """The total tokens of some completions; a number unknown for one is unknown for the total."""
    prompt_tokens = sum(completion.prompt_tokens for completion in completions)
    completion_tokens = sum(completion.completion_tokens for completion in completions)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        cached_tokens=_known_sum([completion.cached_tokens for completion in completions]),
        image_tokens=_known_sum([completion.image_tokens for completion in completions]),
        audio_tokens=_known_sum([completion.audio_tokens for completion in completions]),
        video_tokens=_known_sum([completion.video_tokens for completion in completions]),
    )


def _known_sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
