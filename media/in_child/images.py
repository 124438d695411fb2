"""Pictures, decoded; the results are what goes through shared memory."""

from __future__ import annotations

from media.decoding import decode, prepare
from media.pixels import pixels_of
from sandbox.result import Result

prepare()


def picture(data: bytes | memoryview, max_pixels: int, longest_side: int | None) -> Result:
    """Size and pixels of a picture; see `media.decoding.decode`."""
    image = decode(data, max_pixels, longest_side)
    return Result(image.size, pixels_of(image))
