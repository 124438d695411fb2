"""From our messages to what vLLM's chat takes: roles checked, pictures made fit, and no forged tokens in the text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidGeneration
from engine.interface import ImagePart, Message, TextPart, ToolCall

if TYPE_CHECKING:
    from PIL.Image import Image

ROLES = frozenset({"system", "user", "assistant", "tool"})
WORD_JOINER = "\u2060"
SPACE = " "

# Image processors divide by a side or by a patch count; 1x1 and 1x30000 have crashed some (CVE-2026-22773).
LEAST_SIDE = 32
MOST_ELONGATED = 50

# A base model goes on with the next turn, its own or another's, in the spelling of the prompt or of its training.
PLAIN_STOPS = tuple(f"\n{written}:" for role in sorted(ROLES) for written in (role, role.capitalize(), role.upper()))
_PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ message['role'] + ': ' + message['content'] + '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'assistant:' }}{%- endif -%}"
)


def plain_template(with_bos: bool) -> str:
    """A chat template for base models: a line of `role: content` for each message.

    Arguments: `with_bos`, whether the model's prompts begin with its beginning-of-sequence token.
    """
    return ("{{ bos_token }}" if with_bos else "") + _PLAIN_TEMPLATE


def without_half_label(text: str) -> str:
    """The text without a last line that is the beginning of a role's label and nothing more."""
    begin = text.rfind("\n")
    is_half = begin >= 0 and any(stop.startswith(text[begin:]) for stop in PLAIN_STOPS)
    return text[:begin] if is_half else text


class TokenBreaker:
    """Breaks up the tokenizer's special tokens where they are typed as text.

    A typed `<|im_start|>` would forge a turn and a typed `<image>` stands for a picture that is not there, which can
    crash an engine (CVE-2026-44222). Broken up, they read the same and are only text.

    Arguments:
        tokens: the special tokens and the model's placeholders for pictures.
        joiner: what goes behind a token's first character.
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
        supports_images: whether the model reads pictures at all.
        max_images: how many pictures a prompt may hold.
        break_tokens: applied to every text.
    """

    def __init__(self, model_name: str, *, supports_images: bool, max_images: int, break_tokens: TokenBreaker) -> None:
        self._model_name = model_name
        self._supports_images = supports_images
        self._max_images = max_images
        self._break_tokens = break_tokens

    def chat_messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages of one conversation.

        Raises: `InvalidGeneration` for a role that does not exist, and for pictures that the model cannot take.
        """
        check_messages(messages, self._max_images)
        if not self._supports_images and any(message.images for message in messages):
            raise InvalidGeneration(
                f"The model {self._model_name} reads no pictures. Send text only, or set VLLM_MODEL_NAME to a model "
                "that sees."
            )
        return [self._chat_message(message) for message in messages]

    def chat_tools(self, tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The tools as a chat template shows them: their texts without forged tokens, parameters never missing."""
        return shown_tools(tools, self._break_tokens)

    def _chat_message(self, message: Message) -> dict[str, Any]:
        chat_message = self._spoken(message)
        if message.tool_calls:
            chat_message["tool_calls"] = [shown_call(call, self._break_tokens) for call in message.tool_calls]
        if message.tool_call_id is not None:
            chat_message["tool_call_id"] = self._break_tokens(message.tool_call_id)
        return chat_message

    def _spoken(self, message: Message) -> dict[str, Any]:
        parts = [
            {"type": "text", "text": self._break_tokens(part)}
            if isinstance(part, str)
            else {"type": "image_pil", "image_pil": digestible(part.image), "uuid": part.digest}
            for part in merged(message.content)
        ]
        if any(part["type"] != "text" for part in parts):
            return {"role": message.role, "content": parts}
        return {"role": message.role, "content": parts[0]["text"] if parts else ""}


def check_messages(messages: Sequence[Message], max_images: int) -> None:
    """Refuses a conversation that no model could be asked.

    Raises: `InvalidGeneration` for a role that does not exist, for no messages, and for too many pictures.
    """
    if not messages:
        raise InvalidGeneration("The conversation has no messages.")
    for message in messages:
        if message.role not in ROLES:
            raise InvalidGeneration(f"There is no role {message.role[:40]!r}; there are {', '.join(sorted(ROLES))}.")
    n_images = sum(len(message.images) for message in messages)
    if n_images > max_images:
        raise InvalidGeneration(
            f"The prompt holds {n_images} pictures and may hold {max_images}. Send fewer, or raise "
            "VLLM_MAX_IMAGES_PER_PROMPT."
        )


def shown_tools(tools: Sequence[dict[str, Any]], break_tokens: Callable[[str], str]) -> list[dict[str, Any]]:
    """The tools as a chat template shows them: their texts without forged tokens, parameters never missing."""
    return [
        {
            **tool,
            "function": {"parameters": {"type": "object", "properties": {}}, **_broken(tool["function"], break_tokens)},
        }
        for tool in tools
    ]


def shown_call(call: ToolCall, break_tokens: Callable[[str], str]) -> dict[str, Any]:
    """A call in a message, its texts without forged tokens."""
    try:
        # Templates get the arguments decoded, so it is there that a token must not stand.
        given = json.loads(call.arguments)
        safe = _broken(given, break_tokens)
        arguments = call.arguments if safe == given else json.dumps(safe, ensure_ascii=False)
    except (ValueError, RecursionError):  # a server elsewhere may have made them
        arguments = break_tokens(call.arguments)
    return {
        "id": break_tokens(call.id),
        "type": "function",
        "function": {"name": break_tokens(call.name), "arguments": arguments},
    }


def _broken(value: Any, break_tokens: Callable[[str], str]) -> Any:
    """A JSON value with every text in it broken up."""
    if isinstance(value, str):
        return break_tokens(value)
    if isinstance(value, list):
        return [_broken(item, break_tokens) for item in value]
    if isinstance(value, dict):
        return {break_tokens(key): _broken(item, break_tokens) for key, item in value.items()}
    return value


def merged(content: Iterable[TextPart | ImagePart]) -> list[str | ImagePart]:
    """Joins neighbouring texts: a template may put them together without a gap, and two halves make one token."""
    joined: list[str | ImagePart] = []
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


def digestible(image: Image) -> Image:
    """The picture itself, or where it is tiny or extremely long, one that image processors can take.

    A long one gets white margins along its sides (and is made smaller first where those would be large); a tiny one is
    enlarged.
    """
    short, long = sorted(image.size)
    if long > MOST_ELONGATED * short:
        image = _with_margins(image, short, long)
        short = min(image.size)
    if short < LEAST_SIDE:
        scale = LEAST_SIDE / short
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    return image


def _with_margins(image: Image, short: int, long: int) -> Image:
    from PIL import Image as images

    target_long = min(long, MOST_ELONGATED * max(short, LEAST_SIDE))
    scale = target_long / long
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    target_short = -(-target_long // MOST_ELONGATED)
    size = (target_short, target_long) if image.height > image.width else (target_long, target_short)
    canvas = images.new("RGB", size, (255, 255, 255))
    canvas.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    return canvas
