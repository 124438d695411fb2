"""Turns and pictures as the bytes that the sessions' file holds, and back.

A turn is JSON, with each picture named by its digest. A picture is a PNG: without loss, checked by its own checksums,
half the size of bare pixels, and written at 40 million pixel bytes a second where one sets zlib to its quickest ways
(Pillow's defaults take several times as long, QOI and WebP longer still).
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import StoreDamaged
from engine.interface import ImagePart, Message, TextPart, ToolCall

if TYPE_CHECKING:
    from PIL.Image import Image

_QUICKEST_LEVEL = 1
_RUN_LENGTHS = 3  # zlib's Z_RLE


def encode_messages(messages: Sequence[Message]) -> bytes:
    """The messages as JSON in UTF-8; lone surrogates, which a model may write, pass through."""
    records = [_record(message) for message in messages]
    return json.dumps(records, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode_messages(data: bytes, picture: Callable[[str], ImagePart]) -> tuple[Message, ...]:
    """The messages that `encode_messages` wrote; `picture` gives the picture of a digest.

    Raises: `StoreDamaged`.
    """
    try:
        return tuple(_message(record, picture) for record in json.loads(data.decode("utf-8", "surrogatepass")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreDamaged("a stored message cannot be read") from error


def checksum(data: bytes) -> int:
    """What tells a record from one that was damaged on the disk."""
    return zlib.crc32(data)


def encode_picture(image: Image) -> bytes:
    """The picture's pixels without loss, and nothing else of it."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=_QUICKEST_LEVEL, compress_type=_RUN_LENGTHS, icc_profile=None)
    return file.getvalue()


def decode_picture(data: bytes) -> Image:
    """The picture that `encode_picture` wrote.

    Raises: `StoreDamaged`.
    """
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            # It was within the limits when it came; Pillow warns of pictures that VLLM_MAX_IMAGE_PIXELS may allow.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                image.load()
                plain = image.copy()  # a file's own image has metadata, where vLLM's cache looks for an ImageID
        plain.info = {}
        return plain
    except Exception as error:  # Pillow's plugins raise many kinds
        raise StoreDamaged("a stored picture cannot be read") from error


def _record(message: Message) -> dict[str, Any]:
    record: dict[str, Any] = {
        "role": message.role,
        "content": [
            {"text": part.text} if isinstance(part, TextPart) else {"image": part.digest} for part in message.content
        ],
    }
    if message.tool_calls:
        record["tool_calls"] = [[call.id, call.name, call.arguments] for call in message.tool_calls]
    if message.tool_call_id is not None:
        record["tool_call_id"] = message.tool_call_id
    return record


def _message(record: dict[str, Any], picture: Callable[[str], ImagePart]) -> Message:
    return Message(
        record["role"],
        tuple(TextPart(part["text"]) if "text" in part else picture(part["image"]) for part in record["content"]),
        tuple(ToolCall(*call) for call in record.get("tool_calls", ())),
        record.get("tool_call_id"),
    )
