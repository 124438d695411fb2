"""Pictures on their way out: what a server sent is checked, and what callers are shown of it is made small."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from media.errors import MediaError
from omni.errors import UnusableAnswer
from omni.png import SIGNATURE

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoder import Decoder

MAX_PIXELS = 64 << 20
"""Twice what vLLM-Omni makes at most (`--max-generated-image-size`)."""
PREVIEW_SIDE = 1_024
PREVIEW_BYTES = 500_000
"""In base64 two thirds of the megabyte that Claude Desktop takes; no side above 8,000 pixels, which ends sessions."""
MAX_SIDE = 8_000
SHEET_PREVIEW_SIDE = 512
"""Of each picture of a batch that could not be saved: many of them are kept in memory as long as their jobs."""
QUALITIES = (85, 70, 50, 30)
SHEET_GAP = 8
LABEL_SIZE, LABEL_HEIGHT = 16, 20
MIN_CELL_WIDTH = 32
"""Room for a number of two figures above a tiny picture."""


class Checked(msgspec.Struct, frozen=True):
    """A picture that was decoded whole: as a PNG file, with its size in pixels."""

    png: bytes
    width: int
    height: int


class Preview(msgspec.Struct, frozen=True):
    """A picture to show, encoded."""

    data: bytes
    mime_type: str


def checked(data: bytes, decoder: Decoder) -> Checked:
    """What a server sent as a picture; other formats than PNG are written anew.

    Raises: `UnusableAnswer` where it cannot be decoded.
    """
    try:
        image = decoder.image(data, MAX_PIXELS)
    except MediaError:
        raise UnusableAnswer("The vLLM server answered with something that is not a whole picture.") from None
    return Checked(data if data.startswith(SIGNATURE) else _encoded(image, "PNG"), image.width, image.height)


def small_preview(data: bytes, decoder: Decoder, side: int = PREVIEW_SIDE) -> Preview:
    """A picture file as a JPEG of at most `side` pixels a side and `PREVIEW_BYTES`.

    Raises: `MediaError` where the file is none.
    """
    return _small(decoder.image(data, MAX_PIXELS, side), side)


def full_preview(data: bytes, max_bytes: int, decoder: Decoder) -> Preview | None:
    """A picture at its own size within so many bytes: the file itself, else a JPEG; None where that is not possible.

    Raises: `MediaError` where the file is none.
    """
    image = decoder.image(data, MAX_PIXELS)
    if max(image.size) > MAX_SIDE:
        return None
    if len(data) <= max_bytes and data.startswith(SIGNATURE):
        return Preview(data, "image/png")
    for quality in QUALITIES:
        encoded = _encoded(image, "JPEG", quality=quality)
        if len(encoded) <= max_bytes:
            return Preview(encoded, "image/jpeg")
    return None


def contact_sheet(files: Sequence[bytes], numbers: Sequence[int], decoder: Decoder) -> Preview:
    """Several pictures in rows on one, in their order, each below its number.

    The cells are as large as the largest picture, or as fit. Raises `MediaError` where a file is no picture.
    """
    from PIL import Image, ImageDraw

    n_columns = math.ceil(math.sqrt(len(files)))
    n_rows = math.ceil(len(files) / n_columns)
    room = PREVIEW_SIDE - SHEET_GAP
    most = room // n_columns - SHEET_GAP, room // n_rows - SHEET_GAP - LABEL_HEIGHT
    images = [decoder.image(data, MAX_PIXELS, max(most)) for data in files]
    for image in images:
        image.thumbnail(most)
    across = max(MIN_CELL_WIDTH, *(image.width for image in images)) + SHEET_GAP
    down = max(image.height for image in images) + LABEL_HEIGHT + SHEET_GAP
    sheet = Image.new("RGB", (n_columns * across + SHEET_GAP, n_rows * down + SHEET_GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (number, image) in enumerate(zip(numbers, images, strict=True)):
        row, column = divmod(place, n_columns)
        left, top = SHEET_GAP + column * across, SHEET_GAP + row * down
        pen.text((left, top), str(number), fill="black", font_size=LABEL_SIZE)
        sheet.paste(image, (left, top + LABEL_HEIGHT))
    return _small(sheet)


def png_of(image: Image) -> bytes:
    """A picture as a PNG file, for a server that is to change it."""
    return _encoded(image, "PNG")


def fitted(image: Image, width: int, height: int) -> bytes:
    """A picture as a PNG file of this size: as much of its middle as has the shape, so that nothing is stretched."""
    from PIL.ImageOps import fit

    return _encoded(fit(image, (width, height)), "PNG")


def video_preview(data: bytes, decoder: Decoder) -> Preview:
    """A frame out of a video, as `small_preview` makes it of a picture; raises `MediaError` where it is none."""
    return _small(decoder.poster(data))


def _small(image: Image, side: int = PREVIEW_SIDE) -> Preview:
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    for quality in QUALITIES:
        encoded = _encoded(image, "JPEG", quality=quality)
        if len(encoded) <= PREVIEW_BYTES:
            break
    return Preview(encoded, "image/jpeg")


def _encoded(image: Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
