"""Decodes images; the pixels are sent to the parent through shared memory."""

from __future__ import annotations

from media.decoding.images import decode, prepare
from media.decoding.pixels import pixels_of
from sandbox.result import Result

prepare()


def decode_image(data: bytes | memoryview, max_pixels: int, longest_side: int | None) -> Result:
    """The size and pixels of an image; see `media.decoding.images.decode`."""
    image = decode(data, max_pixels, longest_side)
    return Result(image.size, pixels_of(image))
