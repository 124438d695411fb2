"""Pictures, decoded; the results are what goes through shared memory."""

from __future__ import annotations

from media.decoding import decode, prepare
from sandbox.result import Result

PIXELS = "RGBX"
"""How pixels are handed over: as Pillow keeps RGB in memory, which is copied faster than three bytes a pixel."""

prepare()


def picture(data: bytes | memoryview, max_pixels: int, longest_side: int | None) -> Result:
    """Size and pixels of a picture; see `media.decoding.decode`."""
    image = decode(data, max_pixels, longest_side)
    return Result(image.size, image.tobytes("raw", PIXELS))
