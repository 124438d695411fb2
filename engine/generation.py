"""One generation: its requests and what has become of each, until all conversations of a batch are answered."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, GenerationFailed
from engine.interface import Completion, Control, Conversation, FinishReason
from engine.logprobs import token_logprobs
from engine.parsers import PlainReader
from engine.stepped_llm import Accepted

if TYPE_CHECKING:
    from engine.shared_steps import Seat
    from engine.step_loop import StepLoop

_FINISHED = {"stop": FinishReason.STOP, "repetition": FinishReason.STOP, "length": FinishReason.LENGTH}


@dataclass(slots=True)
class Answer:
    """A completion in the making; `index` is its place in the caller's list, `told` the text that a listener has.

    `n_logprobs` is `Sampling.logprobs`; `logprobs` are vLLM's own, one position a token.
    """

    index: int
    accepted: Accepted
    reader: PlainReader
    n_logprobs: int | None = None
    retried: bool = False
    pieces: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    first_token_ms: float | None = None
    logprobs: list[Any] = field(default_factory=list)

    def completion(self, text: str, finish_reason: FinishReason, cached_tokens: int | None) -> Completion:
        """The finished completion."""
        if finish_reason is not FinishReason.STOP:
            text = self.reader.whole(text)
        output = self.reader.read(text, self.token_ids, self.accepted.prompt_token_ids)
        return Completion(
            text=output.text,
            reasoning=output.reasoning,
            tool_calls=output.tool_calls,
            finish_reason=FinishReason.TOOL_CALLS if output.tool_calls else finish_reason,
            prompt_tokens=self.accepted.prompt_tokens,
            completion_tokens=len(self.token_ids),
            cached_tokens=cached_tokens,
            image_tokens=self.accepted.image_tokens,
            first_token_ms=self.first_token_ms,
            logprobs=None if self.n_logprobs is None else token_logprobs(self.logprobs, self.n_logprobs),
        )


class Generation:
    """The state of one `StepLoop.run`.

    Arguments: the loop; the conversations to be answered as one batch; how they are watched and stopped.
    `conversations` are those taken so far, all of them at the end. It belongs to one thread; others only call
    `note_first_tokens`, which holds the engine's lock as all do that change what it looks at.
    """

    def __init__(self, loop: StepLoop, conversations: Iterable[Conversation], control: Control) -> None:
        self.conversations: list[Conversation] = []
        self._loop = loop
        self._source = conversations
        self._control = control
        self._started_s = time.monotonic()
        self._output_kind = loop.output_kind(control)
        self._completions: dict[int, Completion] = {}
        self._unfinished: dict[str, Answer] = {}
        self._waiting_for_first: list[Answer] = []
        self._refusal: EngineError | None = None

    @property
    def unfinished(self) -> Collection[Answer]:
        """The answers that the engine still works on, or has outputs of that are not taken yet."""
        return self._unfinished.values()

    def run(self, seat: Seat) -> list[Completion]:
        """Adds the requests and waits until all are answered, refused or late; see `Engine.generate`."""
        for index, conversation in enumerate(self._source):
            self.conversations.append(conversation)
            self._control.stop_if_cancelled()
            if index and self._control.is_late:  # preparing a picture takes its time
                self._completions[index] = Completion(finish_reason=FinishReason.TIMEOUT)
                continue
            self._add(index, seat)
        while self._unfinished:
            self._control.stop_if_cancelled()
            if self._control.is_late:
                self._end_unfinished(seat)
                break
            for output in self._loop.steps.outputs(seat):
                self._take(output, seat)
        refusal, self._refusal = self._refusal, None
        if refusal is not None and len(self.conversations) == 1:
            raise refusal
        return [self._completions[index] for index in range(len(self.conversations))]

    def note_first_tokens(self) -> None:
        """Called after each step: notes when answers began."""
        if not self._waiting_for_first:
            return
        now_ms = (time.monotonic() - self._started_s) * 1e3
        waiting = []
        for answer in self._waiting_for_first:
            if self._loop.has_begun(answer.accepted):
                answer.first_token_ms = now_ms
            else:
                waiting.append(answer)
        self._waiting_for_first = waiting

    def _add(self, index: int, seat: Seat, retried: bool = False) -> None:
        conversation = self.conversations[index]
        try:
            messages = self._loop.chat_messages(conversation)
            with self._loop.steps.engine_lock:
                accepted, reader = self._loop.add(conversation, messages, self._output_kind)
                answer = Answer(index, accepted, reader, conversation.sampling.logprobs, retried)
                self._unfinished[accepted.request_id] = answer
                self._waiting_for_first.append(answer)
                self._loop.steps.own(accepted.request_id, seat)
        except EngineError as error:
            self._fail(index, error)

    def _fail(self, index: int, error: EngineError) -> None:
        if index == 0:
            self._refusal = error  # raised when it turns out to be the only conversation
        self._note(index, Completion(error=str(error)))

    def _take(self, output: Any, seat: Seat) -> None:
        answer = self._unfinished.get(output.request_id)
        if answer is None:
            return
        new = output.outputs[0]
        if output.finished and new.finish_reason not in _FINISHED:
            self._take_failed(answer, seat)
            return
        if answer.n_logprobs is not None:
            answer.logprobs += new.logprobs or ()
        if self._output_kind.name == "DELTA":
            self._tell(answer, new.text, new.token_ids)
            text = "".join(answer.pieces) if output.finished else ""
        else:
            text = new.text
            answer.token_ids.extend(new.token_ids)
        if output.finished:
            del self._unfinished[output.request_id]
            self._finish(answer, text, _FINISHED[new.finish_reason], output.num_cached_tokens, new.logprobs)

    def _take_failed(self, answer: Answer, seat: Seat) -> None:
        """A request that vLLM gave up, typically over pictures that its caches lost: worth a second try."""
        del self._unfinished[answer.accepted.request_id]
        if not answer.retried and not answer.pieces and not self._control.is_late:
            self._add(answer.index, seat, retried=True)
        else:
            self._fail(answer.index, GenerationFailed("The engine gave this request up. Send it again."))

    def _tell(self, answer: Answer, text: str, token_ids: Sequence[int]) -> None:
        answer.token_ids.extend(token_ids)
        shown = ""
        if self._control.on_text is not None:
            with self._loop.reading(answer.reader):
                shown = answer.reader.new_answer_text(text, token_ids, answer.accepted.prompt_token_ids)
        if text:
            answer.pieces.append(text)
        if text or shown:
            self._show(answer, shown)

    def _show(self, answer: Answer, text: str) -> None:
        answer.told.append(text)
        if self._control.on_text is not None:
            self._control.on_text(answer.index, text, len(answer.token_ids))

    def _finish(
        self,
        answer: Answer,
        text: str,
        finish_reason: FinishReason,
        cached_tokens: int | None,
        last_logprobs: Any = None,
    ) -> None:
        """Notes a completion, and shows a listener what its reader kept back until the whole output was there."""
        with self._loop.reading(answer.reader):
            completion = answer.completion(text, finish_reason, cached_tokens)
        completion = self._loop.choices.decide(completion, self.conversations[answer.index].choice, last_logprobs)
        told = "".join(answer.told)
        if self._control.on_text is not None and completion.text.startswith(told) and completion.text != told:
            self._show(answer, completion.text[len(told) :])
        self._note(answer.index, completion)

    def _note(self, index: int, completion: Completion) -> None:
        self._completions[index] = completion
        if self._control.on_finished is not None:
            self._control.on_finished(index)

    def _end_unfinished(self, seat: Seat) -> None:
        """Ends every unfinished answer at the deadline with the text that it has."""
        outputs, rests = self._loop.end(self, seat)
        for output in outputs:
            self._take(output, seat)
        for answer, rest in rests:
            if rest.logprobs is not None:
                answer.logprobs = rest.logprobs
            self._tell(answer, rest.text, (rest.token_ids or ())[len(answer.token_ids) :])
            del self._unfinished[answer.accepted.request_id]
            self._finish(answer, "".join(answer.pieces), FinishReason.TIMEOUT, rest.cached_tokens)
