"""The loop over the steps of a loaded engine: requests in, outputs out, and nothing left behind.

`vllm.LLM` can be stopped only from inside its step loop, and what an interrupted loop leaves is answered to the next
caller. So the loop is ours: between two steps it sends new text, asks whether it is cancelled and looks at the clock.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from engine import failures, structured
from engine.adapters import Adapters
from engine.choice import Choices
from engine.errors import PromptTooLong
from engine.generation import Generation
from engine.interface import Completion, Control, Conversation
from engine.parsers import OutputParsers, PlainReader
from engine.rendering import Renderer
from engine.stepped_llm import Accepted

if TYPE_CHECKING:
    from engine.generation import Answer

log = logging.getLogger("engine")

# Above this a refused prompt is not tokenized again only to tell its length.
MOST_CHARACTERS_COUNTED = 200_000
# How often cancelling and the deadline are looked at while an engine core elsewhere is busy.
CORE_WAIT_S = 0.1


class EngineBroken(Exception):
    """The engine raised in the middle of a step, or said that it is gone; the cause tells why."""


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

    def run(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations as one batch; see `Engine.generate`.

        Raises: `EngineBroken` and those errors of `Engine.generate` that concern the requests.
        """
        try:
            generation = Generation(self, conversations, control)
            completions = generation.run()
            return structured.checked(generation.conversations, completions)
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
