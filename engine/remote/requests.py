"""Builds the body of a `/v1/chat/completions` request, for vLLM and for other servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.errors import InvalidGeneration
from engine.interface import Conversation, Sampling
from engine.parts import VideoPart
from engine.prompts import forced_calls
from engine.prompts.choice import MAX_ALTERNATIVES, spellings
from engine.prompts.forced_calls import AUTO, NONE
from engine.prompts.media_parts import frame_metadata
from engine.prompts.rendering import check_messages, thinking_kwargs
from engine.remote.failures import DASHSCOPE_HOSTS
from engine.remote.messages import OpenAIMessages, break_special_tokens, unchanged
from engine.schemas.checks import closed
from http_client.addresses import host_of

OPENAI_HOST = "api.openai.com"
BYTES_PER_TOKEN = 2_048
"""A generous limit for an event with one token and the usage, at any server."""
BYTES_PER_LOGPROB = 512
MIN_STREAM_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model on a server: its name, whether vLLM serves it, and the length of its context."""

    url: str
    model: str
    is_vllm: bool
    max_model_len: int | None = None


class OpenAIRequests:
    """Builds the requests to one endpoint; `max_images` is the maximum of a prompt."""

    def __init__(self, endpoint: Endpoint, max_images: int) -> None:
        self._endpoint = endpoint
        self._max_images = max_images
        self._messages = OpenAIMessages(
            break_special_tokens if endpoint.is_vllm else unchanged,
            is_vllm=endpoint.is_vllm,
            wants_urls=host_of(endpoint.url).endswith(DASHSCOPE_HOSTS),
        )

    @property
    def model(self) -> str:
        """The model's name at the server."""
        return self._endpoint.model

    def body(self, conversation: Conversation) -> dict[str, Any]:
        """The body of a request.

        Raises: `InvalidGeneration` where the server cannot do what the conversation asks for.
        """
        check_messages(conversation.messages, self._max_images)
        body: dict[str, Any] = {
            "model": conversation.lora or self._endpoint.model,
            "messages": self._messages.messages(conversation.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._endpoint.is_vllm and (videos := _videos(conversation)):
            body["media_io_kwargs"] = {"video": _reading_of(videos)}
        if conversation.choice:
            return {**body, **self._only(conversation, _vllm_choice(conversation.choice)), **self._choosing()}
        body |= self._sampled(conversation)
        if conversation.sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": conversation.sampling.logprobs}
        if conversation.response_format is not None:
            body["response_format"] = _response_format(conversation.response_format.schema)
        if conversation.tools and conversation.tool_choice != NONE:
            body["tools"] = self._messages.tools(conversation.tools)
            body["tool_choice"] = _tool_choice(conversation.tool_choice)
            if self.is_forced_here(conversation):
                body |= {"tool_choice": NONE, "response_format": _response_format(forced_schema(conversation))}
        return body

    def is_forced_here(self, conversation: Conversation) -> bool:
        """Whether a forced call uses our own format: vLLM's format needs a tool parser on the server."""
        return self._endpoint.is_vllm and bool(conversation.tools) and conversation.tool_choice not in (AUTO, NONE)

    def max_tokens(self, body: dict[str, Any], n_tokens: int) -> dict[str, Any]:
        """The request with another max_tokens."""
        return {**body, self._max_tokens_name(): n_tokens}

    def _sampled(self, conversation: Conversation) -> dict[str, Any]:
        sampling = conversation.sampling
        own = _vllm_sampling(sampling)
        if not self._endpoint.is_vllm:
            unusual = [name for name, value in own.items() if value != _vllm_sampling(Sampling(0.0, 1))[name]]
            unusual += ["enable_thinking"] if conversation.enable_thinking is not None else []
            if unusual:
                raise InvalidGeneration(
                    f"{', '.join(unusual)}: only a vLLM server accepts this, and the one at {self._endpoint.url} is "
                    "not one. Leave it out."
                )
        fields: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
        if not self._endpoint.is_vllm:  # some models reject these fields even with their default value
            fields = {name: value for name, value in fields.items() if value != _DEFAULTS[name]}
        if sampling.seed is not None:
            fields["seed"] = sampling.seed
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        fields[self._max_tokens_name()] = self._max_tokens(sampling.max_tokens)
        return fields | self._only(conversation, own)

    def _choosing(self) -> dict[str, Any]:
        return {"temperature": 0.0, self._max_tokens_name(): 1, "logprobs": True, "top_logprobs": MAX_ALTERNATIVES}

    def _only(self, conversation: Conversation, own: dict[str, Any]) -> dict[str, Any]:
        """Fields for vLLM only; without them vLLM uses the model's generation_config."""
        if not self._endpoint.is_vllm:
            return {}
        own = {**own, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        if kwargs := thinking_kwargs(conversation):
            own["chat_template_kwargs"] = kwargs
        return own

    def _max_tokens(self, max_tokens: int) -> int:
        """vLLM rejects more than its context length, though it shortens what does not fit after the prompt."""
        return min(max_tokens, self._endpoint.max_model_len or max_tokens)

    def _max_tokens_name(self) -> str:
        """The first guess: OpenAI's newer models accept only the new name, most other servers only the old one. A
        server that rejects one name gets the other."""
        return "max_completion_tokens" if is_openai(self._endpoint.url) else "max_tokens"


_DEFAULTS = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def is_openai(url: str) -> bool:
    """Whether a URL leads to OpenAI itself, also in a region such as eu.api.openai.com."""
    return f".{host_of(url)}".endswith(f".{OPENAI_HOST}")


def forced_schema(conversation: Conversation) -> dict[str, Any]:
    """The JSON schema of the forced calls of a conversation."""
    return closed(forced_calls.schema_of(conversation.tools, conversation.tool_choice))


def max_stream_bytes(conversation: Conversation) -> int:
    """The maximum length of a stream."""
    sampling = conversation.sampling
    per_token = BYTES_PER_TOKEN + BYTES_PER_LOGPROB * (1 + (sampling.logprobs or 0))
    return MIN_STREAM_BYTES + per_token * sampling.max_tokens


def _videos(conversation: Conversation) -> list[VideoPart]:
    return [part for message in conversation.messages for part in message.media if isinstance(part, VideoPart)]


def _reading_of(videos: list[VideoPart]) -> dict[str, Any]:
    """How vLLM reads the frames: all of them, and with their times where these are those of the only video."""
    times = frame_metadata(videos[0]) if len(videos) == 1 else {}
    return {"num_frames": -1, **times}


def _vllm_sampling(sampling: Sampling) -> dict[str, Any]:
    return {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "min_tokens": sampling.min_tokens,
        "ignore_eos": sampling.ignore_eos,
        "repetition_penalty": sampling.repetition_penalty,
    }


def _vllm_choice(words: tuple[str, ...]) -> dict[str, Any]:
    """The words in every spelling, with and without a leading space, as the only allowed output. vLLM takes
    log-probabilities after the grammar is applied, which keeps the ratio between the words."""
    written = [space + spelling for word in words for spelling in spellings(word) for space in ("", " ")]
    return {"structured_outputs": {"choice": written}, **_vllm_sampling(Sampling(0.0, 1))}


def _response_format(schema: dict[str, Any] | None) -> dict[str, Any]:
    if schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _tool_choice(choice: str) -> Any:
    if choice in (AUTO, forced_calls.REQUIRED):
        return choice
    return {"type": "function", "function": {"name": choice}}
