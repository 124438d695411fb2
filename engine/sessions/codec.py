"""Encodes turns and their media for the session file, and decodes them.

A turn is JSON that names each image, audio and video by its digest. Beside that of audio or a video is a text, which
servers read that know only images. An image is the differences between adjacent pixels, compressed with zlib's fastest
settings. This is lossless and takes 0.3 s for a photograph of 12 megapixels; a PNG of the same size takes three times
as long, mostly for choosing filters. A video is one image with its frames below each other.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import StoreDamaged
from engine.interface import AudioPart, ImagePart, Message, TextPart, ToolCall, VideoPart
from engine.parts import Media, Part

if TYPE_CHECKING:
    from PIL.Image import Image

_FASTEST_LEVEL = 1
_MAX_MEM_LEVEL = 9


class MediaRecord(NamedTuple):
    """An image's mode and size, and its encoded pixels.

    Audio has the mode `AUDIO_MODE`, its number of samples as width, and the compressed samples. A video has the mode
    `VIDEO_MODE`, the size of all its frames below each other, and before the pixels a line of JSON.
    """

    mode: str
    width: int
    height: int
    pixels: bytes


AUDIO_MODE, VIDEO_MODE = "audio", "video"


def encode_messages(messages: Sequence[Message]) -> bytes:
    """The messages as JSON in UTF-8, including lone surrogates, which a model may generate."""
    records = [_record(message) for message in messages]
    return json.dumps(records, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode_messages(data: bytes, media: Callable[[str], Media]) -> tuple[Message, ...]:
    """Decodes messages; `media` returns the image, audio or video with a digest.

    Raises: `StoreDamaged`.
    """
    try:
        return tuple(_message(record, media) for record in json.loads(data.decode("utf-8", "surrogatepass")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreDamaged("a stored message cannot be read") from error


def last_model(data: bytes) -> str | None:
    """The model of the last reply in encoded messages, `None` where it is not known; raises `StoreDamaged`."""
    try:
        records = json.loads(data.decode("utf-8", "surrogatepass"))
        return next((record["model"] for record in reversed(records) if "model" in record), None)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreDamaged("a stored message cannot be read") from error


def checksum(data: bytes) -> int:
    """A checksum that detects records that were damaged on disk."""
    return zlib.crc32(data)


def encode_media(part: Media) -> MediaRecord:
    """Encodes the pixels or samples of a part."""
    if isinstance(part, ImagePart):
        return encode_image(part.image)
    if isinstance(part, AudioPart):
        return MediaRecord(AUDIO_MODE, len(part.samples), 1, zlib.compress(part.samples, _FASTEST_LEVEL))
    first = part.frames[0]
    pixels = encode_image(_stacked(part.frames))
    facts = {"mode": pixels.mode, "times_s": part.times_s, "duration_s": part.duration_s, "fps": part.fps}
    head = json.dumps(facts, separators=(",", ":")).encode() + b"\n"
    return MediaRecord(VIDEO_MODE, first.width, pixels.height, head + pixels.pixels)


def decode_media(record: MediaRecord, digest: str) -> Media:
    """Decodes what has that digest; raises `StoreDamaged`."""
    try:
        if record.mode == AUDIO_MODE:
            return AudioPart(zlib.decompress(record.pixels), digest)
        if record.mode == VIDEO_MODE:
            return _video(record, digest)
    except (zlib.error, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise StoreDamaged("a stored audio or video cannot be read") from error
    return ImagePart(decode_image(record), digest)


def _video(record: MediaRecord, digest: str) -> VideoPart:
    head, _, pixels = record.pixels.partition(b"\n")
    facts = json.loads(head)
    times_s = tuple(facts["times_s"])
    stack = decode_image(record._replace(mode=facts["mode"], pixels=pixels))
    height = stack.height // len(times_s)
    frames = tuple(
        stack.crop((0, number * height, stack.width, (number + 1) * height)) for number in range(len(times_s))
    )
    return VideoPart(frames, times_s, facts["duration_s"], facts["fps"], digest)


def _stacked(frames: Sequence[Image]) -> Image:
    """One image with the frames below each other."""
    from PIL.Image import new

    width, height = frames[0].size
    stack = new(frames[0].mode, (width, height * len(frames)))
    for number, frame in enumerate(frames):
        stack.paste(frame, (0, number * height))
    return stack


def encode_image(image: Image) -> MediaRecord:
    """Encodes the pixels of an image with 8 bits per channel, without its metadata."""
    from PIL import ImageChops

    n_channels = len(image.getbands())
    channels = _channels(image.tobytes(), image.width * n_channels, image.height)
    differences = ImageChops.subtract_modulo(channels, _moved(channels, n_channels))
    packer = zlib.compressobj(_FASTEST_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _MAX_MEM_LEVEL, zlib.Z_RLE)
    pixels = packer.compress(differences.tobytes()) + packer.flush()
    return MediaRecord(image.mode, image.width, image.height, pixels)


def decode_image(record: MediaRecord) -> Image:
    """Decodes an image; raises `StoreDamaged`."""
    from PIL import Image, ImageChops, ImageMode

    try:
        distance = len(ImageMode.getmode(record.mode).bands)
        row = record.width * distance
        channels = _channels(zlib.decompress(record.pixels), row, record.height)
        while distance < row:  # each value is the sum of differences, of twice as many after each step
            channels = ImageChops.add_modulo(channels, _moved(channels, distance))
            distance *= 2
        return Image.frombytes(record.mode, (record.width, record.height), channels.tobytes())
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise StoreDamaged("a stored image cannot be read") from error


def _channels(values: bytes, width: int, height: int) -> Image:
    """An image with the 8-bit values of all channels side by side; raises ValueError if there are more or fewer."""
    from PIL import Image

    if len(values) != width * height:
        raise ValueError("the values do not fill the image")
    return Image.frombytes("L", (width, height), values)


def _moved(image: Image, distance: int) -> Image:
    """The image moved to the right; zeros come in from the left."""
    from PIL.Image import new

    moved = new(image.mode, image.size)
    moved.paste(image, (distance, 0))
    return moved


def _record(message: Message) -> dict[str, Any]:
    record: dict[str, Any] = {
        "role": message.role,
        "content": [_part_record(part) for part in message.content],
    }
    if message.tool_calls:
        record["tool_calls"] = [[call.id, call.name, call.arguments] for call in message.tool_calls]
    if message.tool_call_id is not None:
        record["tool_call_id"] = message.tool_call_id
    if message.model is not None:
        record["model"] = message.model
    return record


def _part_record(part: Part) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"text": part.text}
        case ImagePart():
            return {"image": part.digest}
        case _:
            return {"text": f"[{part.kind} of {part.duration_s:.1f} s]", part.kind: part.digest}


def _part(record: dict[str, Any], media: Callable[[str], Media]) -> Part:
    digest = next((record[kind] for kind in ("audio", "video", "image") if kind in record), None)
    return TextPart(record["text"]) if digest is None else media(digest)


def _message(record: dict[str, Any], media: Callable[[str], Media]) -> Message:
    return Message(
        record["role"],
        tuple(_part(part, media) for part in record["content"]),
        tuple(ToolCall(*call) for call in record.get("tool_calls", ())),
        record.get("tool_call_id"),
        record.get("model"),
    )
