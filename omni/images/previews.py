"""Checks images from servers, and makes previews for callers."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from media.errors import MediaError
from omni.errors import InvalidResponse
from omni.files.metadata import PNG_SIGNATURE

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoder import Decoder

MAX_PIXELS = 64 << 20
"""Twice vLLM-Omni's maximum (`--max-generated-image-size`)."""
PREVIEW_SIDE = 1_024
PREVIEW_BYTES = 500_000
"""In base64 two thirds of the 1 MB that Claude Desktop accepts; a side above 8,000 pixels ends its sessions."""
MAX_SIDE = 8_000
SHEET_PREVIEW_SIDE = 512
"""For images of a batch that could not be saved: they are kept in memory as long as their jobs."""
QUALITIES = (85, 70, 50, 30)
SHEET_GAP = 8
LABEL_SIZE, LABEL_HEIGHT = 16, 20
MIN_CELL_WIDTH = 32
"""Space for a number of two digits above a tiny image."""


class Checked(msgspec.Struct, frozen=True):
    """A completely decoded image: the PNG file, and its size in pixels."""

    png: bytes
    width: int
    height: int


class Preview(msgspec.Struct, frozen=True):
    """An encoded preview."""

    data: bytes
    mime_type: str


def checked(data: bytes, decoder: Decoder) -> Checked:
    """An image from a server; other formats are converted to PNG.

    Raises: `InvalidResponse` where it cannot be decoded.
    """
    try:
        image = decoder.image(data, MAX_PIXELS)
    except MediaError:
        raise InvalidResponse("The vLLM server responded with something that is not a complete image.") from None
    return Checked(data if data.startswith(PNG_SIGNATURE) else _encoded(image, "PNG"), image.width, image.height)


def small_preview(data: bytes, decoder: Decoder, side: int = PREVIEW_SIDE) -> Preview:
    """An image file as a JPEG of at most `side` pixels a side and `PREVIEW_BYTES`.

    Raises: `MediaError` where it is not an image.
    """
    return _small(decoder.image(data, MAX_PIXELS, side), side)


def full_preview(data: bytes, max_bytes: int, decoder: Decoder) -> Preview | None:
    """An image at its own size in at most `max_bytes`: the file itself or a JPEG; `None` where neither fits.

    Raises: `MediaError` where it is not an image.
    """
    image = decoder.image(data, MAX_PIXELS)
    if max(image.size) > MAX_SIDE:
        return None
    if len(data) <= max_bytes and data.startswith(PNG_SIGNATURE):
        return Preview(data, "image/png")
    for quality in QUALITIES:
        encoded = _encoded(image, "JPEG", quality=quality)
        if len(encoded) <= max_bytes:
            return Preview(encoded, "image/jpeg")
    return None


def contact_sheet(files: Sequence[bytes], numbers: Sequence[int], decoder: Decoder) -> Preview:
    """Several images in rows on one sheet, in order, each below its number.

    Raises: `MediaError` where a file is not an image.
    """
    from PIL import Image, ImageDraw

    n_columns = math.ceil(math.sqrt(len(files)))
    n_rows = math.ceil(len(files) / n_columns)
    room = PREVIEW_SIDE - SHEET_GAP
    cell = room // n_columns - SHEET_GAP, room // n_rows - SHEET_GAP - LABEL_HEIGHT
    images = [decoder.image(data, MAX_PIXELS, max(cell)) for data in files]
    for image in images:
        image.thumbnail(cell)
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
    """An image as a PNG file."""
    return _encoded(image, "PNG")


def fitted(image: Image, width: int, height: int) -> bytes:
    """An image as a PNG file of this size, cropped around its centre rather than stretched."""
    from PIL.ImageOps import fit

    return _encoded(fit(image, (width, height)), "PNG")


def reduced(image: Image, side: int) -> Image:
    """An image of at most `side` pixels a side; the given one stays as it is."""
    small = image.copy()
    small.thumbnail((side, side))
    return small


def thumbnail(image: Image, max_bytes: int) -> bytes:
    """An image as a JPEG of at most `max_bytes`, or as small as one pixel makes it."""
    while True:
        for quality in QUALITIES:
            encoded = _encoded(image, "JPEG", quality=quality)
            if len(encoded) <= max_bytes:
                return encoded
        if max(image.size) <= 1:
            return encoded
        image = reduced(image, max(image.size) // 2)


def video_preview(data: bytes, decoder: Decoder) -> Preview:
    """A frame of a video as a preview; raises `MediaError` where it is not a video."""
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
