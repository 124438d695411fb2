"""From a conversation to vLLM's inputs: sampling parameters, chat options and the parser of the output."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from engine.errors import PromptTooLong
from engine.interface import Completion, Conversation
from engine.local.adapter import AddedRequest, EngineAdapter
from engine.local.lora import LoraAdapters
from engine.local.output_parsers import OutputParsers, PlainOutputParser
from engine.prompts import structured_outputs
from engine.prompts.choice import Choices
from engine.prompts.rendering import Renderer

MAX_CHARACTERS_COUNTED = 200_000
"""A longer rejected prompt is not tokenized again just to state its length."""


@dataclass(frozen=True, slots=True)
class ChatInputs:
    """What `LLM.enqueue_chat` takes for one conversation, and the parser of its output."""

    messages: list[dict[str, Any]]
    params: Any
    options: dict[str, Any]
    parser: PlainOutputParser

    def added_to(self, adapter: EngineAdapter) -> AddedRequest:
        """Adds the request to the engine; raises what vLLM raises."""
        return adapter.add(self.messages, self.params, self.options)


class InputProcessor:
    """Makes vLLM's inputs for one loaded model.

    Arguments:
        llm: the loaded `vllm.LLM`.
        renderer: makes vLLM's chat messages.
        lora_adapters: those that conversations may name.
        parsers: the model's parsers for tool calls and reasoning.
        plain_template: a chat template for a model that has none, otherwise `None`.
        plain_stop: stop strings for such a model, in addition to those of the conversation.
    """

    def __init__(
        self,
        llm: Any,
        renderer: Renderer,
        lora_adapters: LoraAdapters,
        parsers: OutputParsers,
        plain_template: str | None = None,
        plain_stop: tuple[str, ...] = (),
    ) -> None:
        self._llm = llm
        self._renderer = renderer
        self._lora_adapters = lora_adapters
        self._parsers = parsers
        self._plain_template = plain_template
        self._plain_stop = plain_stop
        self._choices = Choices(llm)

    def prepare(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The conversation's messages as vLLM takes them; uses no part of the engine, so any thread may call it.

        Raises: `InvalidGeneration`.
        """
        return self._renderer.chat_messages(conversation.messages)

    def process(self, conversation: Conversation, messages: list[dict[str, Any]], output_kind: Any) -> ChatInputs:
        """The inputs for one conversation; uses the tokenizer, so one thread at a time may call it.

        Arguments:
            conversation: what to answer, and how.
            messages: what `prepare` returned for it.
            output_kind: vLLM's `RequestOutputKind`.
        Raises: `InvalidGeneration`, and what vLLM raises for invalid sampling parameters.
        """
        options = self._parsers.chat_options(conversation, self._renderer.chat_tools(conversation.tools))
        options["chat_template"] = self._plain_template
        options["lora_request"] = self._lora_adapters.request(conversation.lora)
        params = self._sampling_params(conversation, output_kind)
        parser = PlainOutputParser() if conversation.choice else self._parsers.output_parser(conversation)
        parser.constrain(params)
        return ChatInputs(messages, self._choices.limit(params, conversation.choice), options, parser)

    def finish(self, completion: Completion, conversation: Conversation, logprobs: Any) -> Completion:
        """The completion with the choice that the log-probabilities of the last output make."""
        return self._choices.decide(completion, conversation.choice, logprobs)

    def too_long(self, inputs: ChatInputs) -> PromptTooLong:
        """The error for a prompt that vLLM rejected as too long; vLLM itself stops counting at its limit."""
        return PromptTooLong(self._prompt_tokens(inputs), self._llm.model_config.max_model_len)

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
            structured_outputs=structured_outputs.parameters(conversation.response_format),
            output_kind=output_kind,
        )

    def _prompt_tokens(self, inputs: ChatInputs) -> int | None:
        contents = [message["content"] for message in inputs.messages]
        if not all(isinstance(content, str) for content in contents):
            return None  # only the image processor knows how many tokens an image takes
        if sum(map(len, contents)) > MAX_CHARACTERS_COUNTED:
            return None
        with contextlib.suppress(Exception):
            tokenizer = self._llm.get_tokenizer()
            text = tokenizer.apply_chat_template(
                inputs.messages,
                tools=inputs.options.get("tools"),
                chat_template=self._plain_template,
                tokenize=False,
                add_generation_prompt=True,
                **inputs.options.get("chat_template_kwargs", {}),
            )
            return len(tokenizer.encode(text, add_special_tokens=False))
        return None
