"""Collects a completion from the events of its stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engine.errors import EngineError, GenerationFailed
from engine.interface import Completion, Conversation, FinishReason, TokenLogprob, ToolCall
from engine.parts import NOUNS
from engine.prompts import forced_calls
from engine.prompts.choice import probabilities_of_texts
from engine.remote.chunks import (
    CallPiece,
    Choice,
    Chunk,
    Delta,
    FunctionPiece,
    TokenEntry,
    TokenUsage,
    is_finish_reason,
)
from http_client.redaction import KeyFilter

IMPOSSIBLE = -9999.0
"""vLLM's log-probability of an impossible token; JSON has no infinity."""
MAX_CALLS = 128

_LENGTH = {
    "length", "max_tokens", "max_length", "max_output_tokens", "max_completion_tokens", "max_new_tokens",
    "model_length", "token_limit", "context_length", "model_context_window_exceeded",
}  # fmt: skip
_CALLS = {"tool_calls", "function_call", "tool_use", "tool_call", "function_calls"}
_FILTERED = {
    "content_filter", "content_filtered", "filtered", "safety", "image_safety", "recitation", "blocklist",
    "prohibited_content", "spii", "refusal", "sensitive", "moderation", "guardrail_intervened", "policy_violation",
}  # fmt: skip
_FAILED = {
    "abort", "aborted", "error", "failed", "cancelled", "canceled", "network_error", "server_error", "engine_error",
    "internal_error", "insufficient_system_resource",
}  # fmt: skip
"""Finish reasons of a failed request. Any other word means a complete response."""
_EMPTY = FunctionPiece()
_NO_ARGUMENTS = ("", "null")
"""What servers send for a call without arguments."""
MAX_QUOTED_CHARACTERS = 20_000


@dataclass(slots=True)
class _Call:
    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""

    @property
    def is_complete(self) -> bool:
        return bool(self.name) and forced_calls.is_arguments(self.arguments)


@dataclass(slots=True)
class StreamedCompletion:
    """The completion so far.

    Arguments:
        conversation: what was sent.
        is_forced_here: whether its calls are forced in our own format, so that its text is not shown.
        keys: removes the server's key.
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
    is_filtered: bool = False
    remarks: list[str] = field(default_factory=list)
    """Warnings for the caller."""

    @property
    def completion_tokens(self) -> int:
        """The server's count; before it arrives the number of events, which usually have one token each."""
        return self.usage.completion_tokens if self.usage is not None else max(self.n_events, len(self.logprobs))

    def take(self, chunk: Chunk) -> str | None:
        """Adds an event; returns its text, "" for reasoning or calls, `None` for neither.

        Raises: `GenerationFailed` for the finish reason of a failed request.
        """
        if chunk.usage is not None and (self.usage is None or chunk.usage.completion_tokens or not chunk.choices):
            self.usage = chunk.usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        text, has_more = self._take_delta(choice)
        if choice.logprobs is not None:
            self.logprobs += choice.logprobs.content or ()
        if choice.finish_reason is not None and is_finish_reason(choice.finish_reason):
            self._finish(choice.finish_reason)
        if not text and not has_more:
            return None
        self.n_events += 1
        return "" if self.is_forced_here else self.keys.next(text)

    def completion(self, first_token_ms: float | None, finish_reason: FinishReason | None = None) -> Completion:
        """The finished completion.

        Arguments:
            first_token_ms: the time to the first token.
            finish_reason: where the generation was ended from outside.

        Raises: `GenerationFailed` where a content filter removed everything.
        """
        if self.is_filtered and finish_reason is None and not self.text and not self.calls:
            raise GenerationFailed("The server's content filter withheld the text. Change the prompt.")
        text, tool_calls = self._calls(self.keys.whole("".join(self.text)))
        ended = finish_reason or self.finish_reason or FinishReason.STOP
        if ended is FinishReason.TOOL_CALLS and not tool_calls:
            ended = FinishReason.STOP
        details = self.usage.prompt_tokens_details if self.usage is not None else None
        kinds = {part.kind for message in self.conversation.messages for part in message.media}
        counted = (details.multimodal_tokens if details is not None else None) or {}
        tokens = {kind: counted.get(kind) if kinds else 0 for kind in NOUNS}
        completion = Completion(
            text=text,
            finish_reason=FinishReason.TOOL_CALLS if tool_calls else ended,
            prompt_tokens=self.usage.prompt_tokens if self.usage is not None else 0,
            completion_tokens=self.completion_tokens,
            cached_tokens=details.cached_tokens if details is not None else None,
            image_tokens=tokens["image"],
            audio_tokens=tokens["audio"],
            video_tokens=tokens["video"],
            first_token_ms=first_token_ms,
            reasoning=self.keys.whole("".join(self.reasoning)) or None,
            tool_calls=tool_calls,
            logprobs=self._logprobs(),
            remarks=tuple(self.remarks),
        )
        return self._decided(completion) if self.conversation.choice else completion

    def with_text(self, error: EngineError) -> EngineError:
        """An error in the middle of the stream, with the text so far."""
        text = self.keys.whole("".join(self.text)).strip()
        if not text or not isinstance(error, GenerationFailed):
            return error
        more = " …" if len(text) > MAX_QUOTED_CHARACTERS else ""
        return GenerationFailed(f"{error} The text so far: {text[:MAX_QUOTED_CHARACTERS]}{more}")

    def _take_delta(self, choice: Choice) -> tuple[str, bool]:
        delta = choice.delta
        if delta is None:
            return "", False
        if choice.is_whole:
            delta = self._new_of(delta)
        text = (delta.content or "") + (delta.refusal or "")
        reasoning = delta.reasoning or delta.reasoning_content or ""
        if text:
            self.text.append(text)
        if reasoning:
            self.reasoning.append(reasoning)
        for piece in delta.tool_calls or ():
            self._take_piece(piece)
        return text, bool(reasoning or delta.tool_calls)

    def _new_of(self, whole: Delta) -> Delta:
        """The part of a whole message that has not been received as deltas."""
        old_text, old_reasoning = "".join(self.text), "".join(self.reasoning)
        text, reasoning = (whole.content or "") + (whole.refusal or ""), whole.reasoning or ""
        return Delta(
            content=text.removeprefix(old_text) if text.startswith(old_text) else None,
            reasoning=reasoning.removeprefix(old_reasoning) if reasoning.startswith(old_reasoning) else None,
            tool_calls=None if self.calls else whole.tool_calls,
        )

    def _take_piece(self, piece: CallPiece) -> None:
        """Adds the piece to its call, or starts a new call."""
        call = self._call_of(piece)
        if call is None and not piece.id and (piece.function is None or piece.function == _EMPTY):
            return
        if call is None:
            if len(self.calls) == MAX_CALLS:
                raise GenerationFailed(f"The server sent more than {MAX_CALLS} tool calls. Try again.")
            call = _Call(piece.index)
            self.calls.append(call)
        call.id = call.id or piece.id or ""
        if piece.function is not None:
            call.name = call.name or piece.function.name or ""
            call.arguments += piece.function.arguments or ""

    def _call_of(self, piece: CallPiece) -> _Call | None:
        """The call that a piece continues, by id, index or position; `None` for a new call. Some servers give every
        call the same index or none, and some send a new id with every piece. A new call has a name."""
        name = piece.function.name if piece.function is not None else None
        known = next((call for call in self.calls if piece.id and call.id == piece.id), None)
        if known is not None:
            return known
        numbered = [call for call in self.calls if piece.index is not None and call.index == piece.index]
        last = numbered[-1] if numbered else None
        if last is None and self.calls and (piece.index is None or not (name or piece.id)):
            last = self.calls[-1]
        if last is None or not name:
            return last
        if piece.id and last.id:
            return None
        return last if not last.name or (last.name == name and not last.is_complete) else None

    def _finish(self, reason: str) -> None:
        # Such as "FinishReason.SAFETY", and Gemini's "content_filter: RECITATION".
        word = reason.partition(":")[0].strip().lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
        word = word.removeprefix("finish_reason_")
        if word in _FAILED:
            raise GenerationFailed("The server aborted this request. Send it again.")
        if word in _FILTERED:
            self.is_filtered = True
            self.finish_reason = FinishReason.CONTENT_FILTER
        elif word in _LENGTH:
            self.finish_reason = FinishReason.LENGTH
        else:
            self.finish_reason = FinishReason.TOOL_CALLS if word in _CALLS else FinishReason.STOP

    def _calls(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """The text and the calls; invalid calls become text."""
        if self.is_forced_here:
            found = forced_calls.calls_in(text, self.conversation.tool_choice)
            return ("", found) if found else (text, ())
        offered = {tool["function"]["name"] for tool in self.conversation.tools}
        calls = tuple(
            ToolCall(
                self.keys.whole(call.id) or forced_calls.new_id(),
                call.name,
                "{}" if call.arguments.strip() in _NO_ARGUMENTS else self.keys.whole(call.arguments),
            )
            for call in self.calls
        )
        if all(call.name in offered and forced_calls.is_arguments(call.arguments) for call in calls):
            return text, calls
        return text + self.keys.whole("".join(call.arguments for call in self.calls)), ()

    def _logprobs(self) -> tuple[TokenLogprob, ...] | None:
        wanted = self.conversation.sampling.logprobs
        text = "".join(entry.token for entry in self.logprobs)
        if wanted is None or self.keys.whole(text) != text:
            return None
        return tuple(_token(entry, wanted) for entry in self.logprobs)

    def _decided(self, completion: Completion) -> Completion:
        """The likeliest word as the text, with the words' probabilities where the server sent log-probabilities."""
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
            audio_tokens=completion.audio_tokens,
            video_tokens=completion.video_tokens,
            first_token_ms=completion.first_token_ms,
            choice_probabilities=shares,
        )


def _token(entry: TokenEntry, n_top: int) -> TokenLogprob:
    top = tuple(TokenLogprob(other.token, _known(other.logprob)) for other in (entry.top_logprobs or ())[:n_top])
    return TokenLogprob(entry.token, _known(entry.logprob), top)


def _known(logprob: float) -> float:
    return logprob if logprob > IMPOSSIBLE else -math.inf
