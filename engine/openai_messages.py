"""Our messages as the OpenAI API takes them: pictures as data URLs, and no forged tokens in the text for vLLM."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.interface import ImagePart, Message
from engine.rendering import WORD_JOINER, digestible, merged, shown_call, shown_tools

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_LOSSLESS_PIXELS = 1 << 22
"""A larger picture goes as JPEG: as PNG a photograph of 12 MP takes 20 MB and more."""
JPEG_QUALITY = 95
MOST_KEPT_BYTES = 64 << 20
"""Encoded pictures that are kept for the next turn of a session, or the next question about the same."""

# Which special tokens a model has, only its tokenizer knows, and that is on the other machine. These are the forms of
# them: <|im_start|>, <image>, <end_of_utterance>, [INST] and their like.
_SPECIAL = re.compile(
    r"<\|[^<>|\s]{1,64}\|>|<｜[^<>｜\s]{1,64}｜>"
    r"|</?(?:image|img|video|audio|s|bos|eos|pad|unk|(?:start|end|begin|fake|global|image|vision|row)[_-][\w-]{1,48}"
    r"|global-img|IMG_CONTEXT|img_context)>"
    r"|\[/?(?:INST|IMG|SYS|IMG_BREAK|IMG_END|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]",
    re.IGNORECASE,
)


def break_special_tokens(text: str) -> str:
    """The text with whatever looks like a special token broken up; see `engine.rendering.TokenBreaker`."""
    return _SPECIAL.sub(lambda match: match[0][0] + WORD_JOINER + match[0][1:], text)


def unchanged(text: str) -> str:
    """For servers that see to such tokens themselves."""
    return text


class OpenAIMessages:
    """Turns messages into those of a request.

    Arguments: `break_tokens`, applied to every text.
    """

    def __init__(self, break_tokens: Callable[[str], str]) -> None:
        self._break_tokens = break_tokens
        self._urls = DataUrls()

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages of one conversation."""
        return [self._message(message) for message in messages]

    def tools(self, tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The tools, their texts without forged tokens, parameters never missing."""
        return shown_tools(tools, self._break_tokens)

    def _message(self, message: Message) -> dict[str, Any]:
        parts = [self._part(part) for part in merged(message.content)]
        made: dict[str, Any] = {"role": message.role, "content": parts}
        if not message.images:
            made["content"] = parts[0]["text"] if parts else ""
        if message.tool_calls:
            made["tool_calls"] = [shown_call(call, self._break_tokens) for call in message.tool_calls]
        if message.tool_call_id is not None:
            made["tool_call_id"] = self._break_tokens(message.tool_call_id)
        return made

    def _part(self, part: str | ImagePart) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": self._break_tokens(part)}
        return {"type": "image_url", "image_url": {"url": self._urls.of(part)}}


class DataUrls:
    """Pictures as data URLs; those used last are kept. Any thread may call it."""

    def __init__(self, most_kept_bytes: int = MOST_KEPT_BYTES) -> None:
        self._most_kept_bytes = most_kept_bytes
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def of(self, part: ImagePart) -> str:
        """The picture's data URL."""
        with self._lock:
            if part.digest in self._kept:
                self._kept.move_to_end(part.digest)
                return self._kept[part.digest]
        url = data_url(digestible(part.image))
        with self._lock:
            if part.digest not in self._kept:
                self._kept[part.digest] = url
                self._n_bytes += len(url)
            while self._n_bytes > self._most_kept_bytes:
                self._n_bytes -= len(self._kept.popitem(last=False)[1])
        return url


def data_url(image: Image) -> str:
    """A picture as PNG, or where that would be large as JPEG, in base64."""
    buffer = io.BytesIO()
    lossless = image.width * image.height <= MOST_LOSSLESS_PIXELS
    if lossless:
        image.save(buffer, "PNG", compress_level=1)  # a fifth of the time for a tenth more bytes
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
