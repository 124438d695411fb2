"""Pixels handed from one process to another as Pillow keeps them: four bytes each, the last of them unused.

Both sides let Pillow look at the shared memory as at a picture of its own, by the call behind `Image.frombuffer`, and
copy once. Its public ways copy two to three times, which takes longer than decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.result import Pending

if TYPE_CHECKING:
    from PIL.Image import Image

BYTES_PER_PIXEL = 4


def pixels_of(image: Image) -> Pending:
    """An RGB picture's pixels, to be written where they are wanted."""
    width, height = image.size

    def write(target: memoryview) -> None:
        _mapped(target, image.size).paste(image.im, (0, 0, width, height))

    return Pending(width * height * BYTES_PER_PIXEL, write)


def image_of(pixels: bytes | memoryview | None, size: tuple[int, int]) -> Image:
    """A picture with its own copy of these pixels.

    Raises: `ValueError` where there are too few.
    """
    from PIL import Image

    return Image.new("RGB", (0, 0))._new(_mapped(pixels or b"", size).copy())


def _mapped(pixels: bytes | memoryview, size: tuple[int, int]) -> Any:
    from PIL import Image

    core: Any = vars(Image)["core"]
    if len(pixels) < size[0] * size[1] * BYTES_PER_PIXEL:
        raise ValueError("too few pixels")
    return core.map_buffer(pixels, size, "raw", 0, ("RGB", size[0] * BYTES_PER_PIXEL, 1))
