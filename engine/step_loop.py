"""The loop over the steps of a loaded engine: requests in, outputs out, and nothing left behind.

`vllm.LLM` can be stopped only from inside its step loop, and what an interrupted loop leaves is answered to the next
caller. So the loop is ours: between two steps it sends new text, asks whether it is cancelled and looks at the clock.
Several threads may run generations at a time, which then share the steps; vLLM itself is used by one at a time.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import failures, structured
from engine.adapters import Adapters
from engine.choice import Choices
from engine.errors import PromptTooLong
from engine.generation import Generation
from engine.interface import Completion, Control, Conversation
from engine.parsers import OutputParsers, PlainReader
from engine.rendering import Renderer
from engine.shared_steps import EngineBroken, Seat, SharedSteps
from engine.stepped_llm import Accepted

if TYPE_CHECKING:
    from engine.generation import Answer

log = logging.getLogger("engine")

# Above this a refused prompt is not tokenized again only to tell its length.
MOST_CHARACTERS_COUNTED = 200_000
# How often cancelling and the deadline are looked at while an engine core elsewhere is busy.
CORE_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class Rest:
    """What vLLM knows of an unfinished answer: the text that was not handed out yet, and of all its tokens the ids and
    log-probabilities; `None` where it does not say."""

    text: str
    token_ids: list[int] | None
    cached_tokens: int | None
    logprobs: list[Any] | None


class StepLoop:
    """Runs generations on one loaded engine, side by side in as many threads as call `run`.

    Arguments:
        llm: a `SteppedLLM`.
        renderer: makes vLLM's messages from ours.
        adapters: those that conversations may name.
        parsers: the model's parsers for tool calls and reasoning.
        plain_template: a chat template for a model that has none, else `None`.
        plain_stop: where the answer of such a model ends, in addition to what is asked for.
        own_thread: whether a thread of its own makes the steps, which `steps.end` then ends; see `SharedSteps`.
    """

    def __init__(
        self,
        llm: Any,
        renderer: Renderer,
        adapters: Adapters,
        parsers: OutputParsers,
        plain_template: str | None = None,
        plain_stop: tuple[str, ...] = (),
        *,
        own_thread: bool = False,
    ) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        self._renderer = renderer
        self._adapters = adapters
        self._plain_template = plain_template
        self._plain_stop = plain_stop
        self._parsers = parsers
        self.choices = Choices(llm)
        self.steps = SharedSteps(self, own_thread)

    @property
    def broken(self) -> BaseException | None:
        """What made the engine unusable, `None` while it is well."""
        return self.steps.broken

    def run(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations as one batch; see `Engine.generate`.

        Raises: `EngineBroken` and those errors of `Engine.generate` that concern the requests.
        """
        generation = Generation(self, conversations, control)
        with self.steps.seat(generation.note_first_tokens) as seat:
            try:
                completions = generation.run(seat)
                return structured.checked(generation.conversations, completions)
            except BaseException as error:
                with self.steps.engine_lock:
                    self._abort(generation, seat)
                if isinstance(error, Exception):
                    raise
                # A panic of a native library, or one that wants to end the process: the engine may be half changed.
                self.steps.fail(error)
                raise EngineBroken from error

    def end(self, generation: Generation, seat: Seat) -> tuple[list[Any], list[tuple[Answer, Rest]]]:
        """Stops a generation's requests; returns the outputs that it has not taken yet, and what else there is of each
        answer that these do not finish."""
        with self.steps.engine_lock:
            outputs = seat.taken()
            finished = {output.request_id for output in outputs if output.finished}
            begun = {output.request_id for output in outputs if output.outputs[0].text}
            unfinished = [answer for answer in generation.unfinished if answer.accepted.request_id not in finished]
            rests = [
                (answer, self._rest(answer, bool(answer.pieces) or answer.accepted.request_id in begun))
                for answer in unfinished
            ]
            self._abort(generation, seat)
            return outputs, rests

    def _abort(self, generation: Generation, seat: Seat) -> None:
        """Stops what the engine still works on for this generation, so that nothing of it reaches the next caller."""
        self.steps.disown(seat)
        try:
            left = list(self._states())
            if not self.steps.is_alone(seat):
                own = {answer.accepted.internal_id for answer in generation.unfinished}
                left = [internal_id for internal_id in left if internal_id in own]
            if left:
                self._engine.abort_request(left, internal=True)
        except BaseException as error:
            log.warning("The engine could not be told to stop.", exc_info=True)
            if not isinstance(error, Exception):
                self.steps.fail(error)

    def output_kind(self, control: Control) -> Any:
        """Whole answers where nobody listens (8 % faster), else new text at each step.

        A deadline needs the text so far, which a later or earlier vLLM might not let us read.
        """
        from vllm.sampling_params import RequestOutputKind

        unreadable = control.deadline_s is not None and not hasattr(self._engine.output_processor, "request_states")
        return RequestOutputKind.DELTA if control.on_text or unreadable else RequestOutputKind.FINAL_ONLY

    def chat_messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The messages as vLLM takes them, which needs no engine; raises an `EngineError` for a refusal."""
        return self._renderer.chat_messages(conversation.messages)

    def add(
        self, conversation: Conversation, messages: list[dict[str, Any]], output_kind: Any
    ) -> tuple[Accepted, PlainReader]:
        """Adds one conversation to the engine, whose lock is held; returns also the reader of its output.

        Arguments: `messages`, what `chat_messages` made of it.
        Raises: an `EngineError` for a refusal, `EngineBroken` when the engine is gone.
        """
        self.steps.check()
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
                self.steps.fail(error)
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

    def reading(self, reader: PlainReader) -> AbstractContextManager[None]:
        """To be held while a reader works: vLLM's parsers use the engine's tokenizer."""
        return self.steps.engine_lock if reader.uses_engine else nullcontext()

    def _rest(self, answer: Answer, has_begun: bool) -> Rest:
        """What there is of an unfinished answer; all of its text when nobody has got any."""
        state = self._states().get(answer.accepted.internal_id)
        detokenizer = getattr(state, "detokenizer", None)
        logprobs = list(getattr(getattr(state, "logprobs_processor", None), "logprobs", None) or ()) or None
        if state is None or detokenizer is None:
            return Rest("", None, None, logprobs)
        text = detokenizer.get_next_output_text(True, has_begun)
        return Rest(text, list(detokenizer.output_token_ids), getattr(state, "num_cached_tokens", None), logprobs)

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
