"""The state of one request: its output so far, and the completion made of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.interface import Completion, Conversation, FinishReason, SpeechWindow, TokenLogprob
from engine.local.adapter import AddedRequest, PartialOutput
from engine.local.batch import Batch
from engine.local.output_parsers import PlainOutputParser


@dataclass(eq=False, slots=True)
class Request:
    """One conversation or window of speech of a batch, from its submission to its completion.

    Arguments:
        batch: the batch that it belongs to.
        index: its place in the batch.
        conversation: what to answer, or to write down.
        prepared: what the input processor made of it at its submission.
        is_retry: whether vLLM has given this request up once.

    Attributes: `added` and `parser` are set when vLLM has accepted it; `logprobs` are vLLM's, one position a token;
    `streamed` is the text that the listener has.
    """

    batch: Batch
    index: int
    conversation: Conversation | SpeechWindow
    prepared: Any
    is_retry: bool = False
    added: AddedRequest = field(init=False)
    parser: PlainOutputParser = field(init=False)
    text: str = ""
    streamed: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    first_token_ms: float | None = None

    def note_first_token(self) -> None:
        """Notes that the first token has just come."""
        self.first_token_ms = (time.monotonic() - self.batch.started_s) * 1e3

    def append(self, text: str, token_ids: Sequence[int], logprobs: Iterable[Any] | None = None) -> None:
        """Takes the new part of the output, and streams what is certainly text of the answer."""
        self.text += text
        self.token_ids.extend(token_ids)
        if self.conversation.sampling.logprobs is not None:
            self.logprobs += logprobs or ()
        if self.batch.control.on_text is not None:
            certain = self.parser.new_answer_text(text, token_ids, self.added.prompt_token_ids)
            if text or certain:
                self._stream(certain)

    def append_partial(self, partial: PartialOutput) -> None:
        """Takes what an unfinished request has beyond its outputs so far."""
        self.append(partial.text, (partial.token_ids or ())[len(self.token_ids) :])
        if partial.logprobs is not None:
            self.logprobs = partial.logprobs

    def completion(self, finish_reason: FinishReason, cached_tokens: int | None) -> Completion:
        """The completion, now that the output is complete or cut off."""
        text = self.text if finish_reason is FinishReason.STOP else self.parser.cut_off(self.text)
        output = self.parser.parse(text, self.token_ids, self.added.prompt_token_ids)
        n_top = self.conversation.sampling.logprobs
        tokens = self.added.media_tokens or {}
        return Completion(
            text=output.text,
            reasoning=output.reasoning,
            tool_calls=output.tool_calls,
            finish_reason=FinishReason.TOOL_CALLS if output.tool_calls else finish_reason,
            prompt_tokens=self.added.prompt_tokens,
            completion_tokens=len(self.token_ids),
            cached_tokens=cached_tokens,
            image_tokens=tokens.get("image"),
            audio_tokens=tokens.get("audio"),
            video_tokens=tokens.get("video"),
            first_token_ms=self.first_token_ms,
            logprobs=None if n_top is None else tuple(_token_logprob(position, n_top) for position in self.logprobs),
        )

    def stream_rest(self, text: str) -> None:
        """Streams the rest of the final text, which the parser held back until the output was complete."""
        if self.batch.control.on_text is not None and text != self.streamed and text.startswith(self.streamed):
            self._stream(text[len(self.streamed) :])

    def _stream(self, text: str) -> None:
        self.streamed += text
        self.batch.post(self.batch.control.on_text, self.index, text, len(self.token_ids))


def _token_logprob(position: Mapping[int, Any], n_top: int) -> TokenLogprob:
    """One token's log-probability.

    Arguments:
        position: vLLM's `Logprob` objects by token id, the chosen token first.
        n_top: how many of the most likely tokens to include.
    """
    logprobs = list(position.values())
    ranked = sorted((logprob for logprob in logprobs if logprob.rank <= n_top), key=lambda logprob: logprob.rank)
    chosen = logprobs[0]
    top = tuple(TokenLogprob(logprob.decoded_token or "", logprob.logprob) for logprob in ranked[:n_top])
    return TokenLogprob(chosen.decoded_token or "", chosen.logprob, top)
