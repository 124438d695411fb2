"""Messages in the format of the OpenAI API: media as data URLs or base64, and for vLLM no special tokens in the text.

Only vLLM has a format for the frames of a video. Other servers get them as images, after a text with their times.
"""

from __future__ import annotations

import base64
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.interface import AudioPart, ImagePart, Message, VideoPart
from engine.parts import AUDIO_RATE, Media
from engine.prompts.media_parts import float_wav, pcm_wav, processable
from engine.prompts.rendering import WORD_JOINER, merged, template_call, template_tools

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_LOSSLESS_PIXELS = 1 << 22
"""A larger image is sent as JPEG: a 12 MP photograph takes more than 20 MB as PNG."""
JPEG_QUALITY = 95
MAX_CACHED_BYTES = 64 << 20
"""Encoded images that are cached for the next turn of a session or the next call with the same image."""

# Only the tokenizer on the other machine knows a model's special tokens. These are their usual formats: <|im_start|>,
# <image>, <end_of_utterance>, [INST] and the like.
_SPECIAL = re.compile(
    r"<\|[^<>|\s]{1,64}\|>|<｜[^<>｜\s]{1,64}｜>"
    r"|</?(?:image|img|video|audio|s|bos|eos|pad|unk|(?:start|end|begin|fake|global|image|vision|row)[_-][\w-]{1,48}"
    r"|global-img|IMG_CONTEXT|img_context)>"
    r"|\[/?(?:INST|IMG|SYS|IMG_BREAK|IMG_END|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]",
    re.IGNORECASE,
)


def break_special_tokens(text: str) -> str:
    """The text with everything that looks like a special token broken up; see `rendering.TokenBreaker`."""
    return _SPECIAL.sub(lambda match: match[0][0] + WORD_JOINER + match[0][1:], text)


def unchanged(text: str) -> str:
    """The same text, for servers that escape special tokens themselves."""
    return text


class OpenAIMessages:
    """Converts messages for a request.

    Arguments:
        break_tokens: applied to every text.
        is_vllm: whether the server takes the frames of a video and needs 32-bit samples, as vLLM does.
        wants_urls: whether it takes audio only as a data URL, as DashScope does.
    """

    def __init__(self, break_tokens: Callable[[str], str], *, is_vllm: bool = False, wants_urls: bool = False) -> None:
        self._break_tokens = break_tokens
        self._is_vllm = is_vllm
        self._wants_urls = wants_urls
        self._urls = DataUrls()

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages of one conversation."""
        return [self._message(message) for message in messages]

    def tools(self, tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The tools, without special tokens in their texts, and always with parameters."""
        return template_tools(tools, self._break_tokens)

    def _message(self, message: Message) -> dict[str, Any]:
        parts = [written for part in merged(message.content) for written in self._parts(part)]
        made: dict[str, Any] = {"role": message.role, "content": parts}
        if not message.media:
            made["content"] = parts[0]["text"] if parts else ""
        if message.tool_calls:
            made["tool_calls"] = [template_call(call, self._break_tokens) for call in message.tool_calls]
        if message.tool_call_id is not None:
            made["tool_call_id"] = self._break_tokens(message.tool_call_id)
        return made

    def _parts(self, part: str | Media) -> list[dict[str, Any]]:
        if isinstance(part, str):
            return [{"type": "text", "text": self._break_tokens(part)}]
        if isinstance(part, ImagePart):
            return [_image_url(self._urls.of(part))]
        if isinstance(part, AudioPart):
            wav = float_wav(part.samples, AUDIO_RATE) if self._is_vllm else pcm_wav(part.samples)
            data = base64.b64encode(wav).decode("ascii")
            written = f"data:;base64,{data}" if self._wants_urls else data
            return [{"type": "input_audio", "input_audio": {"data": written, "format": "wav"}}]
        if self._is_vllm:
            return [{"type": "video_url", "video_url": {"url": frames_url(part)}}]
        frames = [ImagePart(frame, f"{part.digest}-{number}") for number, frame in enumerate(part.frames)]
        times = ", ".join(f"{time_s:.1f}" for time_s in part.times_s)
        told = f"The next {len(frames)} images are frames of a video of {part.duration_s:.1f} s, at {times} s."
        return [{"type": "text", "text": told}, *(_image_url(self._urls.of(frame)) for frame in frames)]


def _image_url(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def frames_url(part: VideoPart) -> str:
    """The frames of a video as vLLM takes them: the base64 of JPEG files, with commas between them."""
    frames = []
    for frame in part.frames:
        buffer = io.BytesIO()
        processable(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        frames.append(base64.b64encode(buffer.getvalue()).decode("ascii"))
    return f"data:video/jpeg;base64,{','.join(frames)}"


class DataUrls:
    """Images as data URLs, with a cache. Any thread may use it."""

    def __init__(self, max_cached_bytes: int = MAX_CACHED_BYTES) -> None:
        self._max_cached_bytes = max_cached_bytes
        self._cached: OrderedDict[str, str] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def of(self, part: ImagePart) -> str:
        """The image's data URL."""
        with self._lock:
            if part.digest in self._cached:
                self._cached.move_to_end(part.digest)
                return self._cached[part.digest]
        url = data_url(processable(part.image))
        with self._lock:
            if part.digest not in self._cached:
                self._cached[part.digest] = url
                self._n_bytes += len(url)
            while self._n_bytes > self._max_cached_bytes:
                self._n_bytes -= len(self._cached.popitem(last=False)[1])
        return url


def data_url(image: Image) -> str:
    """An image as a data URL: PNG, or JPEG for a large image."""
    buffer = io.BytesIO()
    lossless = image.width * image.height <= MAX_LOSSLESS_PIXELS
    if lossless:
        image.save(buffer, "PNG", compress_level=1)  # a fifth of the time for 10 % more bytes
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
