"""Converts messages to vLLM's chat messages: checks roles and media, and escapes special tokens in texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from engine.errors import InvalidGeneration
from engine.interface import Conversation, Message, TextPart, ToolCall
from engine.parts import AUDIO_RATE, NOUNS, Media, Part, too_many
from engine.prompts.media_parts import vllm_part

ROLES = frozenset({"system", "user", "assistant", "tool"})
WORD_JOINER = "\u2060"
SPACE = " "

# A base model continues with the next role's line, spelled as in the prompt or as in its training data.
PLAIN_STOPS = tuple(f"\n{written}:" for role in sorted(ROLES) for written in (role, role.capitalize(), role.upper()))
_PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ message['role'] + ': ' + message['content'] + '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'assistant:' }}{%- endif -%}"
)


def thinking_kwargs(conversation: Conversation) -> dict[str, bool]:
    """The chat template's variables for thinking; templates use one name or the other."""
    if conversation.enable_thinking is None:
        return {}
    return {"enable_thinking": conversation.enable_thinking, "thinking": conversation.enable_thinking}


def plain_template(with_bos: bool) -> str:
    """A chat template for base models: a line `role: content` for each message.

    Arguments:
        with_bos: whether the model's prompts begin with its beginning-of-sequence token.
    """
    return ("{{ bos_token }}" if with_bos else "") + _PLAIN_TEMPLATE


def without_half_label(text: str) -> str:
    """The text without a last line that is only the beginning of a role's label."""
    begin = text.rfind("\n")
    is_half = begin >= 0 and any(stop.startswith(text[begin:]) for stop in PLAIN_STOPS)
    return text[:begin] if is_half else text


class TokenBreaker:
    """Breaks up special tokens that appear in texts, so that the tokenizer reads them as text.

    `<|im_start|>` in a text would forge a turn, and `<image>` would stand for a missing image, which can crash an
    engine (CVE-2026-44222).

    Arguments:
        tokens: the special tokens and the model's image placeholders.
        joiner: the character inserted after a token's first character.
    """

    def __init__(self, tokens: Iterable[str], joiner: str = WORD_JOINER) -> None:
        longest_first = sorted({token for token in tokens if len(token) > 1}, key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._joiner = joiner

    def __call__(self, text: str) -> str:
        """The text with every such token broken up."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: match[0][0] + self._joiner + match[0][1:], text)


class Renderer:
    """Turns messages into vLLM's chat messages.

    Arguments:
        model_name: the model's name for error texts.
        accepts: the kinds of media that the model accepts: `image`, `audio`, `video`.
        max_images: the maximum number of images in a prompt, and of audio parts, and of videos.
        break_tokens: applied to every text.
        audio_rate: the rate at which the model takes audio, in Hz.
    """

    def __init__(
        self,
        model_name: str,
        *,
        accepts: Collection[str],
        max_images: int,
        break_tokens: TokenBreaker,
        audio_rate: int = AUDIO_RATE,
    ) -> None:
        self._model_name = model_name
        self._accepts = accepts
        self._max_images = max_images
        self._break_tokens = break_tokens
        self._audio_rate = audio_rate

    def chat_messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages of one conversation.

        Raises: `InvalidGeneration` for an unknown role, and for media that the model does not accept.
        """
        check_messages(messages, self._max_images, self._model_name, self._accepts)
        return [self._chat_message(message) for message in messages]

    def chat_tools(self, tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The tools for the chat template; see `template_tools`."""
        return template_tools(tools, self._break_tokens)

    def _chat_message(self, message: Message) -> dict[str, Any]:
        chat_message = self._role_and_content(message)
        if message.tool_calls:
            chat_message["tool_calls"] = [template_call(call, self._break_tokens) for call in message.tool_calls]
        if message.tool_call_id is not None:
            chat_message["tool_call_id"] = self._break_tokens(message.tool_call_id)
        return chat_message

    def _role_and_content(self, message: Message) -> dict[str, Any]:
        parts = [
            {"type": "text", "text": self._break_tokens(part)}
            if isinstance(part, str)
            else vllm_part(part, self._audio_rate)
            for part in merged(message.content)
        ]
        if any(part["type"] != "text" for part in parts):
            return {"role": message.role, "content": parts}
        return {"role": message.role, "content": parts[0]["text"] if parts else ""}


def check_messages(
    messages: Sequence[Message], max_images: int, model_name: str = "", accepts: Collection[str] = tuple(NOUNS)
) -> None:
    """Rejects messages that the model cannot be given.

    Arguments:
        messages: those of one conversation.
        max_images: how many images a prompt may hold, and as many audio parts, and videos.
        model_name: the model's name for error texts.
        accepts: the kinds of media that the model accepts.
    Raises: `InvalidGeneration` for an unknown role, no messages, too many media, and media that the model does not
    accept.
    """
    if not messages:
        raise InvalidGeneration("The conversation has no messages.")
    for message in messages:
        if message.role not in ROLES:
            raise InvalidGeneration(f"Unknown role {message.role[:40]!r}; roles are {', '.join(sorted(ROLES))}.")
    media = [part for message in messages for part in message.media]
    if count := too_many(media, max_images):
        raise InvalidGeneration(
            f"The prompt has {count}; the maximum is {max_images}. Send fewer, or raise VLLM_MAX_IMAGES_PER_PROMPT."
        )
    refused = next((part.kind for part in media if part.kind not in accepts), None)
    if refused is not None:
        raise InvalidGeneration(not_accepted(refused, model_name, accepts))


def not_accepted(kind: str, model_name: str, accepts: Collection[str]) -> str:
    """The error text for a kind of media that a model does not accept."""
    if kind == "image":
        return (
            f"The model {model_name} does not accept images. Send text only, or set VLLM_MODEL_NAME to a vision model."
        )
    if kind == "audio":
        return (
            f"The model {model_name} does not accept audio. Send the words as text, or choose a model that takes audio."
        )
    hint = "analyze_video asks it about the frames of a video" if "image" in accepts else "Send text only"
    return f"The model {model_name} does not accept videos. {hint}, or choose a model that takes videos."


def template_tools(tools: Sequence[dict[str, Any]], break_tokens: Callable[[str], str]) -> list[dict[str, Any]]:
    """The tools for a chat template: special tokens broken up, `parameters` always present."""
    return [
        {
            **tool,
            "function": {"parameters": {"type": "object", "properties": {}}, **_broken(tool["function"], break_tokens)},
        }
        for tool in tools
    ]


def template_call(call: ToolCall, break_tokens: Callable[[str], str]) -> dict[str, Any]:
    """A tool call for a chat template, special tokens broken up."""
    try:
        # Templates get the decoded arguments, so tokens are broken up in the decoded values.
        given = json.loads(call.arguments)
        safe = _broken(given, break_tokens)
        arguments = call.arguments if safe == given else json.dumps(safe, ensure_ascii=False)
    except (ValueError, RecursionError):  # a remote server's arguments may be invalid JSON
        arguments = break_tokens(call.arguments)
    return {
        "id": break_tokens(call.id),
        "type": "function",
        "function": {"name": break_tokens(call.name), "arguments": arguments},
    }


def _broken(value: Any, break_tokens: Callable[[str], str]) -> Any:
    """A JSON value with special tokens broken up in every string."""
    if isinstance(value, str):
        return break_tokens(value)
    if isinstance(value, list):
        return [_broken(item, break_tokens) for item in value]
    if isinstance(value, dict):
        return {break_tokens(key): _broken(item, break_tokens) for key, item in value.items()}
    return value


def merged(content: Iterable[Part]) -> list[str | Media]:
    """Joins adjacent texts: a template may join them without a gap, so two parts could form one token."""
    joined: list[str | Media] = []
    texts: list[str] = []
    for part in content:
        if isinstance(part, TextPart):
            texts.append(part.text)
            continue
        if texts:
            joined.append("\n".join(texts))
            texts = []
        joined.append(part)
    return [*joined, "\n".join(texts)] if texts else joined
