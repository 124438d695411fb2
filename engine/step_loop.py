"""One generation on a loaded engine: adds the requests, steps until they are done, and leaves nothing behind.

`vllm.LLM` can be stopped only from inside its step loop, and what an interrupted loop leaves is answered to the next
caller. So the loop is ours: between two steps it sends new text, asks whether it is cancelled and looks at the clock.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import failures, structured
from engine.adapters import Adapters
from engine.choice import Choices
from engine.errors import EngineError, GenerationCancelled, GenerationFailed, PromptTooLong
from engine.interface import Completion, Control, Conversation, FinishReason
from engine.logprobs import token_logprobs
from engine.parsers import OutputParsers, PlainReader
from engine.rendering import Renderer
from engine.stepped_llm import Accepted

log = logging.getLogger("engine")

# Above this a refused prompt is not tokenized again only to tell its length.
MOST_CHARACTERS_COUNTED = 200_000
# How often cancelling and the deadline are looked at while an engine core elsewhere is busy.
CORE_WAIT_S = 0.1
_FINISHED = {"stop": FinishReason.STOP, "repetition": FinishReason.STOP, "length": FinishReason.LENGTH}


class EngineBroken(Exception):
    """The engine raised in the middle of a step, or said that it is gone; the cause tells why."""


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


class StepLoop:
    """Runs generations on one loaded engine, one after another.

    Arguments:
        llm: a `SteppedLLM`.
        renderer: makes vLLM's messages from ours.
        adapters: those that conversations may name.
        parsers: the model's parsers for tool calls and reasoning.
        plain_template: a chat template for a model that has none, else `None`.
        plain_stop: where the answer of such a model ends, in addition to what is asked for.
    """

    def __init__(
        self,
        llm: Any,
        renderer: Renderer,
        adapters: Adapters,
        parsers: OutputParsers,
        plain_template: str | None = None,
        plain_stop: tuple[str, ...] = (),
    ) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        self._renderer = renderer
        self._adapters = adapters
        self._plain_template = plain_template
        self._plain_stop = plain_stop
        self._parsers = parsers
        self.choices = Choices(llm)

    def run(self, conversations: Sequence[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations as one batch; see `Engine.generate`.

        Raises: `EngineBroken` and those errors of `Engine.generate` that concern the requests.
        """
        try:
            return structured.checked(conversations, _Generation(self, conversations, control).run())
        except BaseException:
            self.abort_all()
            raise

    def abort_all(self) -> None:
        """Stops whatever the engine still works on, so that nothing of it reaches the next caller."""
        try:
            if left := list(self._states()):
                self._engine.abort_request(left, internal=True)
        except Exception:
            log.warning("The engine could not be told to stop.", exc_info=True)

    def output_kind(self, control: Control) -> Any:
        """Whole answers where nobody listens (8 % faster), else new text at each step.

        A deadline needs the text so far, which a later or earlier vLLM might not let us read.
        """
        from vllm.sampling_params import RequestOutputKind

        unreadable = control.deadline_s is not None and not hasattr(self._engine.output_processor, "request_states")
        return RequestOutputKind.DELTA if control.on_text or unreadable else RequestOutputKind.FINAL_ONLY

    def add(self, conversation: Conversation, output_kind: Any) -> tuple[Accepted, PlainReader]:
        """Renders one conversation and adds it to the engine; returns also the reader of its output.

        Raises: an `EngineError` for a refusal, `EngineBroken` when the engine is gone.
        """
        messages = self._renderer.chat_messages(conversation.messages)
        options = self._parsers.chat_options(conversation, self._renderer.chat_tools(conversation.tools))
        try:
            params = self._sampling_params(conversation, output_kind)
            options["lora_request"] = self._adapters.request(conversation.lora)
            reader = PlainReader() if conversation.choice else self._parsers.reader(conversation)
            reader.constrain(params)
            params = self.choices.limit(params, conversation.choice)
            try:
                return self._enqueue(messages, params, options), reader
            except Exception as error:
                if not failures.is_cache_miss(error):
                    raise
                return self._enqueue(messages, params, options), reader  # `SteppedLLM` made vLLM forget the pictures
        except Exception as error:
            if failures.is_fatal(error):
                raise EngineBroken from error
            if not isinstance(error, PromptTooLong) and failures.is_too_long(error):
                raise PromptTooLong(
                    self._prompt_tokens(messages, options), self._llm.model_config.max_model_len
                ) from None
            raise failures.refusal(error) from None

    def is_ready(self) -> bool:
        """Whether a step would return soon; False after a short wait for an engine core in a process of its own.

        vLLM's client waits for that process without end, also after its death (0.32).
        """
        core = self._engine.engine_core
        outputs = getattr(core, "outputs_queue", None)
        if outputs is None:
            return True
        with outputs.not_empty:
            if outputs.not_empty.wait_for(lambda: len(outputs.queue), CORE_WAIT_S):
                return True
        if getattr(core.resources, "engine_dead", False):
            raise EngineBroken("The engine core's process is gone.")
        return False

    def step(self) -> list[Any]:
        """The outputs of one step."""
        try:
            outputs: list[Any] = self._engine.step()
        except Exception as error:
            raise EngineBroken from error
        return outputs

    def has_unfinished(self) -> bool:
        """Whether another step is needed."""
        return bool(self._engine.has_unfinished_requests())

    def has_begun(self, accepted: Accepted) -> bool:
        """Whether a request has got its first token; True also when it is finished or vLLM does not say."""
        return not getattr(self._states().get(accepted.internal_id), "is_prefilling", False)

    def so_far(self, answer: Answer) -> tuple[str, list[int], int | None]:
        """An unfinished answer's new text (all of it when nobody listened), and its tokens: all of them, cached."""
        state = self._states().get(answer.accepted.internal_id)
        detokenizer = getattr(state, "detokenizer", None)
        if state is None or detokenizer is None:
            return "", answer.token_ids, None
        rest = detokenizer.get_next_output_text(True, bool(answer.pieces))
        return rest, list(detokenizer.output_token_ids), getattr(state, "num_cached_tokens", None)

    def logprobs_so_far(self, answer: Answer) -> list[Any]:
        """All log-probabilities of an unfinished answer's tokens."""
        processor = getattr(self._states().get(answer.accepted.internal_id), "logprobs_processor", None)
        return list(getattr(processor, "logprobs", None) or answer.logprobs)

    def _states(self) -> dict[str, Any]:
        states: dict[str, Any] = getattr(self._engine.output_processor, "request_states", {})
        return states

    def _enqueue(self, messages: list[dict[str, Any]], params: Any, options: dict[str, Any]) -> Accepted:
        self._llm.enqueue_chat(messages, params, use_tqdm=False, chat_template=self._plain_template, **options)
        accepted: Accepted = self._llm.accepted
        return accepted

    def _sampling_params(self, conversation: Conversation, output_kind: Any) -> Any:
        from vllm import SamplingParams

        sampling = conversation.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            min_tokens=sampling.min_tokens,
            seed=sampling.seed,
            stop=[*sampling.stop, *self._plain_stop],
            ignore_eos=sampling.ignore_eos,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            logprobs=sampling.logprobs,
            structured_outputs=structured.parameters(conversation.response_format),
            output_kind=output_kind,
        )

    def _prompt_tokens(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> int | None:
        """The length of a refused prompt: vLLM stops counting at its limit."""
        contents = [message["content"] for message in messages]
        if not all(isinstance(content, str) for content in contents):
            return None  # what a picture takes is known only after its processing
        if sum(map(len, contents)) > MOST_CHARACTERS_COUNTED:
            return None
        with contextlib.suppress(Exception):
            text = self._llm.get_tokenizer().apply_chat_template(
                messages,
                tools=options.get("tools"),
                chat_template=self._plain_template,
                tokenize=False,
                add_generation_prompt=True,
                **options.get("chat_template_kwargs", {}),
            )
            return len(self._llm.get_tokenizer().encode(text, add_special_tokens=False))
        return None


class _Generation:
    """The state of one `StepLoop.run`."""

    def __init__(self, loop: StepLoop, conversations: Sequence[Conversation], control: Control) -> None:
        self._loop = loop
        self._conversations = conversations
        self._control = control
        self._started_s = time.monotonic()
        self._output_kind = loop.output_kind(control)
        self._completions: dict[int, Completion] = {}
        self._unfinished: dict[str, Answer] = {}
        self._waiting_for_first: list[Answer] = []

    def run(self) -> list[Completion]:
        for index in range(len(self._conversations)):
            self._stop_if_cancelled()
            if index and self._is_late():  # preparing a picture takes its time
                self._completions[index] = Completion(finish_reason=FinishReason.TIMEOUT)
                continue
            self._add(index)
        while self._loop.has_unfinished():
            self._stop_if_cancelled()
            if self._is_late():
                self._end_unfinished()
                break
            if not self._loop.is_ready():
                continue
            outputs = self._loop.step()
            if self._waiting_for_first:
                self._note_first_tokens()
            for output in outputs:
                self._take(output)
        if self._unfinished:
            raise GenerationFailed("The engine lost a request. Send it again.")
        return [self._completions[index] for index in range(len(self._conversations))]

    def _add(self, index: int, retried: bool = False) -> None:
        try:
            accepted, reader = self._loop.add(self._conversations[index], self._output_kind)
        except EngineError as error:
            self._fail(index, error)
            return
        answer = Answer(index, accepted, reader, self._conversations[index].sampling.logprobs, retried)
        self._unfinished[accepted.request_id] = answer
        self._waiting_for_first.append(answer)

    def _fail(self, index: int, error: EngineError) -> None:
        if len(self._conversations) == 1:
            raise error
        self._note(index, Completion(error=str(error)))

    def _stop_if_cancelled(self) -> None:
        if self._control.cancelled():
            raise GenerationCancelled("The generation was cancelled.")

    def _is_late(self) -> bool:
        return self._control.deadline_s is not None and time.monotonic() >= self._control.deadline_s

    def _note_first_tokens(self) -> None:
        now_ms = (time.monotonic() - self._started_s) * 1e3
        waiting = []
        for answer in self._waiting_for_first:
            if self._loop.has_begun(answer.accepted):
                answer.first_token_ms = now_ms
            else:
                waiting.append(answer)
        self._waiting_for_first = waiting

    def _take(self, output: Any) -> None:
        answer = self._unfinished.get(output.request_id)
        if answer is None:
            return
        new = output.outputs[0]
        if output.finished and new.finish_reason not in _FINISHED:
            self._take_failed(answer)
            return
        if answer.n_logprobs is not None:
            answer.logprobs += new.logprobs or ()
        if self._output_kind.name == "DELTA":
            self._tell(answer, new.text, new.token_ids)
            text = "".join(answer.pieces)
        else:
            text = new.text
            answer.token_ids.extend(new.token_ids)
        if output.finished:
            del self._unfinished[output.request_id]
            self._finish(answer, text, _FINISHED[new.finish_reason], output.num_cached_tokens, new.logprobs)

    def _take_failed(self, answer: Answer) -> None:
        """A request that vLLM gave up, typically over pictures that its caches lost: worth a second try."""
        del self._unfinished[answer.accepted.request_id]
        if not answer.retried and not answer.pieces:
            self._add(answer.index, retried=True)
        else:
            self._fail(answer.index, GenerationFailed("The engine gave this request up. Send it again."))

    def _tell(self, answer: Answer, text: str, token_ids: Sequence[int]) -> None:
        answer.token_ids.extend(token_ids)
        shown = ""
        if self._control.on_text is not None:
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
        completion = answer.completion(text, finish_reason, cached_tokens)
        completion = self._loop.choices.decide(completion, self._conversations[answer.index].choice, last_logprobs)
        told = "".join(answer.told)
        if self._control.on_text is not None and completion.text.startswith(told) and completion.text != told:
            self._show(answer, completion.text[len(told) :])
        self._note(answer.index, completion)

    def _note(self, index: int, completion: Completion) -> None:
        self._completions[index] = completion
        if self._control.on_finished is not None:
            self._control.on_finished(index)

    def _end_unfinished(self) -> None:
        """Ends every unfinished answer at the deadline with the text that it has."""
        for answer in self._drain():
            answer.logprobs = self._loop.logprobs_so_far(answer)
            rest, token_ids, cached_tokens = self._loop.so_far(answer)
            self._tell(answer, rest, token_ids[len(answer.token_ids) :])
            self._finish(answer, "".join(answer.pieces), FinishReason.TIMEOUT, cached_tokens)
        self._loop.abort_all()

    def _drain(self) -> Iterator[Answer]:
        while self._unfinished:
            yield self._unfinished.pop(next(iter(self._unfinished)))
