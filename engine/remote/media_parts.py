"""Audio and video in a request, in the form of OpenAI's and vLLM's API."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import InvalidGeneration
from engine.prompts.media_parts import as_float_wav

MAX_MEDIA_BYTES = 48 << 20
"""Audio and video of one request; base64 adds a third, and services accept less than this."""


@dataclass(frozen=True, slots=True)
class MediaPart:
    """Audio as WAV, or a video, to send with a prompt."""

    kind: Literal["audio", "video"]
    data: bytes
    mime_type: str


def with_media(
    body: dict[str, Any], media: tuple[MediaPart, ...], *, is_dashscope: bool = False, is_vllm: bool = False
) -> dict[str, Any]:
    """The request with audio and video appended to its last message.

    Arguments:
        body: the request.
        media: what to append.
        is_dashscope: whether the service takes audio only as a data URL.
        is_vllm: whether vLLM gets it, which leaves 16-bit samples unscaled (0.32) and so needs floats.
    Raises: `InvalidGeneration` where they are larger than `MAX_MEDIA_BYTES`.
    """
    n_bytes = sum(len(part.data) for part in media)
    if n_bytes > MAX_MEDIA_BYTES:
        raise InvalidGeneration(
            f"Audio and video together have {n_bytes / 1e6:.1f} MB; one request carries {MAX_MEDIA_BYTES / 1e6:.0f} "
            "MB. Send shorter ones."
        )
    if not media:
        return body
    *earlier, last = body["messages"]
    content = last["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    parts += [_part(part, is_dashscope, is_vllm) for part in media]
    return {**body, "messages": [*earlier, {**last, "content": parts}]}


def _part(part: MediaPart, is_dashscope: bool, is_vllm: bool) -> dict[str, Any]:
    content = as_float_wav(part.data) if is_vllm and part.kind == "audio" else part.data
    data = base64.b64encode(content).decode("ascii")
    if part.kind == "video":
        return {"type": "video_url", "video_url": {"url": f"data:{part.mime_type};base64,{data}"}}
    # DashScope requires a URL here, and accepts a data URL.
    written = f"data:;base64,{data}" if is_dashscope else data
    return {"type": "input_audio", "input_audio": {"data": written, "format": "wav"}}
