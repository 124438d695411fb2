"""One conversation as the body of a `/v1/chat/completions` request, for a vLLM server or for any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine import forced_calls
from engine.choice import MOST_ALTERNATIVES, spellings
from engine.errors import InvalidGeneration
from engine.interface import Conversation, Sampling
from engine.openai_messages import OpenAIMessages, break_special_tokens, unchanged
from engine.parsers import AUTO, NONE, thinking_kwargs
from engine.rendering import check_messages
from engine.schemas import closed
from http_client.addresses import host_of

OPENAI_HOST = "api.openai.com"
BYTES_PER_TOKEN = 2_048
"""Far more than an event with one token and the usage so far takes, in any server's form."""
BYTES_PER_LOGPROB = 512
LEAST_ANSWER_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is known of the server: the model to ask for, whether it is vLLM, and the context's length."""

    url: str
    model: str
    is_vllm: bool
    max_model_len: int | None = None


class OpenAIRequests:
    """Makes the requests to one server. Used by one thread.

    Arguments: the server; how many pictures a prompt may hold.
    """

    def __init__(self, endpoint: Endpoint, max_images: int) -> None:
        self._endpoint = endpoint
        self._max_images = max_images
        self._messages = OpenAIMessages(break_special_tokens if endpoint.is_vllm else unchanged)

    def body(self, conversation: Conversation) -> dict[str, Any]:
        """The request.

        Raises: `InvalidGeneration` for what the server could not be asked.
        """
        check_messages(conversation.messages, self._max_images)
        body: dict[str, Any] = {
            "model": conversation.lora or self._endpoint.model,
            "messages": self._messages.messages(conversation.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
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
        """Whether a call that must be made comes in a form of ours: vLLM's own needs a parser to be set there."""
        return self._endpoint.is_vllm and bool(conversation.tools) and conversation.tool_choice not in (AUTO, NONE)

    def most_tokens(self, body: dict[str, Any], n_tokens: int) -> dict[str, Any]:
        """The request with a shorter answer."""
        return {**body, self._max_tokens_name(): n_tokens}

    def _sampled(self, conversation: Conversation) -> dict[str, Any]:
        sampling = conversation.sampling
        own = _vllm_sampling(sampling)
        if not self._endpoint.is_vllm:
            unusual = [name for name, value in own.items() if value != _vllm_sampling(Sampling(0.0, 1))[name]]
            unusual += ["enable_thinking"] if conversation.enable_thinking is not None else []
            if unusual:
                raise InvalidGeneration(
                    f"{', '.join(unusual)}: only a vLLM server knows this, and the one at {self._endpoint.url} is "
                    "another. Leave it out."
                )
        asked: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
        if not self._endpoint.is_vllm:  # some models take no value but the default, not even where it is the same
            asked = {name: value for name, value in asked.items() if value != _DEFAULTS[name]}
        if sampling.seed is not None:
            asked["seed"] = sampling.seed
        if sampling.stop:
            asked["stop"] = list(sampling.stop)
        asked[self._max_tokens_name()] = self._max_tokens(sampling.max_tokens)
        return asked | self._only(conversation, own)

    def _choosing(self) -> dict[str, Any]:
        return {
            "temperature": 0.0,
            self._max_tokens_name(): 1,
            "logprobs": True,
            "top_logprobs": MOST_ALTERNATIVES,
        }

    def _only(self, conversation: Conversation, own: dict[str, Any]) -> dict[str, Any]:
        """What only vLLM is told; without these its defaults would be the model's own."""
        if not self._endpoint.is_vllm:
            return {}
        own = {**own, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        if kwargs := thinking_kwargs(conversation):
            own["chat_template_kwargs"] = kwargs
        return own

    def _max_tokens(self, max_tokens: int) -> int:
        """vLLM refuses more than its context holds, though it shortens what does not fit behind the prompt."""
        return min(max_tokens, self._endpoint.max_model_len or max_tokens)

    def _max_tokens_name(self) -> str:
        """OpenAI's newer models take only the new name, most other servers only the old one. A server that refuses the
        one is asked with the other; this is only the first guess."""
        host = host_of(self._endpoint.url)
        is_openai = host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")  # eu.api.openai.com and its like
        return "max_completion_tokens" if is_openai else "max_tokens"


_DEFAULTS = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def forced_schema(conversation: Conversation) -> dict[str, Any]:
    """The form of the calls that a conversation must be answered with."""
    return closed(forced_calls.schema_of(conversation.tools, conversation.tool_choice))


def max_answer_bytes(conversation: Conversation) -> int:
    """How long the stream of an answer may be."""
    sampling = conversation.sampling
    per_token = BYTES_PER_TOKEN + BYTES_PER_LOGPROB * (1 + (sampling.logprobs or 0))
    return LEAST_ANSWER_BYTES + per_token * sampling.max_tokens


def _vllm_sampling(sampling: Sampling) -> dict[str, Any]:
    return {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "min_tokens": sampling.min_tokens,
        "ignore_eos": sampling.ignore_eos,
        "repetition_penalty": sampling.repetition_penalty,
    }


def _vllm_choice(words: tuple[str, ...]) -> dict[str, Any]:
    """The words in every spelling, with and without a space before them: the grammar leaves nothing else likely.

    It comes before the log-probabilities are taken, which raises those of the words alike and so leaves their share.
    """
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
