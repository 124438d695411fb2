"""The events of a chat completion stream, as OpenAI defines them, with the additions of other servers."""

from __future__ import annotations

from typing import Any

import msgspec


class FunctionPiece(msgspec.Struct, frozen=True):
    """A piece of a tool call: the name of the function, or more of the JSON text of its arguments."""

    name: str | None = None
    arguments: str | None = None


class CallPiece(msgspec.Struct, frozen=True):
    """A piece of a tool call; `id` and `index` say of which call, where the server sends them."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class Delta(msgspec.Struct, frozen=True):
    """The new part of the message; servers use either name for the reasoning.

    The fields of type `Any` exist only at some servers; `odd_events` reads them.
    """

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallPiece] | None = None
    thinking: Any = None
    reasoning_text: Any = None
    reasoning_details: Any = None
    function_call: Any = None

    @property
    def is_odd(self) -> bool:
        """Whether a field is set that only `odd_events` reads."""
        return (
            self.thinking is not None
            or self.reasoning_text is not None
            or self.reasoning_details is not None
            or self.function_call is not None
        )


class LikelyToken(msgspec.Struct, frozen=True):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float


class TokenEntry(LikelyToken, frozen=True):
    """A generated token with its alternatives."""

    top_logprobs: list[LikelyToken] | None = None


class TokenEntries(msgspec.Struct, frozen=True):
    """The log-probabilities of the new tokens."""

    content: list[TokenEntry] | None = None


class Choice(msgspec.Struct, frozen=True):
    """A choice of the completion; one is requested. `is_whole`: the delta is the whole message, not its next piece."""

    delta: Delta | None = None
    logprobs: TokenEntries | None = None
    finish_reason: str | None = None
    is_whole: bool = False
    error: Any = None


class PromptDetails(msgspec.Struct, frozen=True):
    """Kinds of prompt tokens, where the server reports them."""

    cached_tokens: int | None = None
    multimodal_tokens: dict[str, int] | None = None


class TokenUsage(msgspec.Struct, frozen=True):
    """Token counts so far."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None


class Chunk(msgspec.Struct, frozen=True):
    """One event of the stream."""

    choices: list[Choice] | None = None
    usage: TokenUsage | None = None
    error: Any = None


def is_finish_reason(finish_reason: str | None) -> bool:
    """Whether a `finish_reason` says that the message has ended."""
    return finish_reason is not None and finish_reason.strip().lower() not in ("", "null", "none")
