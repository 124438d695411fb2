"""One answer put together from the pieces of its stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engine import forced_calls
from engine.choice import probabilities_of_texts
from engine.errors import GenerationFailed
from engine.event_stream import CallPiece, Choice, Chunk, TokenEntry, TokenUsage
from engine.interface import Completion, Conversation, FinishReason, TokenLogprob, ToolCall
from engine.key_filter import KeyFilter

IMPOSSIBLE = -9999.0
"""vLLM's figure for a token that cannot be; JSON has no infinity."""
MOST_CALLS = 128

_FINISHED = {
    "stop": FinishReason.STOP,
    "repetition": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class StreamedAnswer:
    """What has come of an answer so far.

    Arguments: the conversation; whether its calls are forced in our own form, so that no text of it is an answer; what
    keeps the server's key out of it.
    """

    conversation: Conversation
    is_forced_here: bool = False
    keys: KeyFilter = field(default_factory=KeyFilter)
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    logprobs: list[TokenEntry] = field(default_factory=list)
    usage: TokenUsage | None = None
    finish_reason: FinishReason | None = None
    n_events: int = 0

    @property
    def completion_tokens(self) -> int:
        """As the server counts them; until it does, as many as have come, an event holding one as a rule."""
        return self.usage.completion_tokens if self.usage is not None else max(self.n_events, len(self.logprobs))

    def take(self, chunk: Chunk) -> str | None:
        """Takes one event; returns its new text of the answer, "" for another piece of it, `None` where it has none.

        Raises: `GenerationFailed` for an end that is none.
        """
        if chunk.usage is not None:
            self.usage = chunk.usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        text, has_more = self._take_delta(choice)
        if choice.logprobs is not None:
            self.logprobs += choice.logprobs.content or ()
        if choice.finish_reason:
            self._finish(choice.finish_reason)
        if not text and not has_more:
            return None
        self.n_events += 1
        return "" if self.is_forced_here else self.keys.next(text)

    def completion(self, first_token_ms: float | None, finish_reason: FinishReason | None = None) -> Completion:
        """The finished completion.

        Arguments: `finish_reason`, where the answer did not end by itself.
        """
        text, tool_calls = self._calls(self.keys.whole("".join(self.text)))
        ended = finish_reason or self.finish_reason or FinishReason.STOP
        if ended is FinishReason.TOOL_CALLS and not tool_calls:
            ended = FinishReason.STOP
        details = self.usage.prompt_tokens_details if self.usage is not None else None
        has_images = any(message.images for message in self.conversation.messages)
        told = (details.multimodal_tokens or {}).get("image") if details is not None else None
        completion = Completion(
            text=text,
            finish_reason=FinishReason.TOOL_CALLS if tool_calls else ended,
            prompt_tokens=self.usage.prompt_tokens if self.usage is not None else 0,
            completion_tokens=self.completion_tokens,
            cached_tokens=details.cached_tokens if details is not None else None,
            image_tokens=told if has_images else 0,
            first_token_ms=first_token_ms,
            reasoning=self.keys.whole("".join(self.reasoning)) or None,
            tool_calls=tool_calls,
            logprobs=self._logprobs(),
        )
        return self._decided(completion) if self.conversation.choice else completion

    def _take_delta(self, choice: Choice) -> tuple[str, bool]:
        delta = choice.delta
        if delta is None:
            return "", False
        text = (delta.content or "") + (delta.refusal or "")
        reasoning = delta.reasoning or delta.reasoning_content or ""
        if text:
            self.text.append(text)
        if reasoning:
            self.reasoning.append(reasoning)
        for piece in delta.tool_calls or ():
            self._take_piece(piece)
        return text, bool(reasoning or delta.tool_calls)

    def _take_piece(self, piece: CallPiece) -> None:
        """Adds to the call of that number; a server that gives none begins one with each name."""
        begins = piece.function is not None and piece.function.name is not None
        number = piece.index if piece.index is not None else len(self.calls) - (0 if begins else 1)
        if not 0 <= number <= min(len(self.calls), MOST_CALLS - 1):
            raise GenerationFailed("The server sent the pieces of a tool call in no order that makes sense. Try again.")
        if number == len(self.calls):
            self.calls.append(_Call())
        call = self.calls[number]
        call.id = call.id or piece.id or ""
        if piece.function is not None:
            call.name = call.name or piece.function.name or ""
            call.arguments += piece.function.arguments or ""

    def _finish(self, reason: str) -> None:
        if reason == "content_filter":
            raise GenerationFailed("The server's content filter withheld the answer. Ask in other words.")
        if reason not in _FINISHED:
            raise GenerationFailed("The server gave this request up. Send it again.")
        self.finish_reason = _FINISHED[reason]

    def _calls(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """The answer's text and its calls; calls that nobody could make are text."""
        if self.is_forced_here:
            found = forced_calls.calls_in(text, self.conversation.tool_choice)
            return ("", found) if found else (text, ())
        offered = {tool["function"]["name"] for tool in self.conversation.tools}
        calls = tuple(
            ToolCall(
                self.keys.whole(call.id) or forced_calls.new_id(),
                call.name,
                self.keys.whole(call.arguments) or "{}",
            )
            for call in self.calls
        )
        if all(call.name in offered and forced_calls.is_arguments(call.arguments) for call in calls):
            return text, calls
        return text + self.keys.whole("".join(call.arguments for call in self.calls)), ()

    def _logprobs(self) -> tuple[TokenLogprob, ...] | None:
        wanted = self.conversation.sampling.logprobs
        told = "".join(entry.token for entry in self.logprobs)
        if wanted is None or self.keys.whole(told) != told:
            return None
        return tuple(_token(entry, wanted) for entry in self.logprobs)

    def _decided(self, completion: Completion) -> Completion:
        """The likeliest word as the text, with the words' probabilities where the server told any."""
        words = self.conversation.choice
        top = _token(self.logprobs[0], len(self.logprobs[0].top_logprobs or ())) if self.logprobs else None
        shares = probabilities_of_texts(words, top.top or (top,)) if top is not None else None
        if shares is None:
            return completion
        word = words[max(range(len(words)), key=shares.__getitem__)]
        return Completion(
            text=word,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cached_tokens=completion.cached_tokens,
            image_tokens=completion.image_tokens,
            first_token_ms=completion.first_token_ms,
            choice_probabilities=shares,
        )


def _token(entry: TokenEntry, n_top: int) -> TokenLogprob:
    top = tuple(TokenLogprob(other.token, _known(other.logprob)) for other in (entry.top_logprobs or ())[:n_top])
    return TokenLogprob(entry.token, _known(entry.logprob), top)


def _known(logprob: float) -> float:
    return logprob if logprob > IMPOSSIBLE else -math.inf
