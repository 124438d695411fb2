"""Passes pixels from one process to another in Pillow's own format: four bytes each, the last one unused.

Both sides map the shared memory as a Pillow image, with the function behind `Image.frombuffer`, and copy once.
Pillow's public functions copy two to three times, which takes longer than decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sandbox.result import Pending

if TYPE_CHECKING:
    from PIL.Image import Image

BYTES_PER_PIXEL = 4


def pixels_of(image: Image) -> Pending:
    """The pixels of an RGB image, to be written to shared memory later."""
    width, height = image.size

    def write(target: memoryview) -> None:
        _mapped(target, image.size).paste(image.im, (0, 0, width, height))

    return Pending(width * height * BYTES_PER_PIXEL, write)


def pixels_of_all(images: Sequence[Image]) -> Pending:
    """The pixels of RGB images one after another, to be written to shared memory later."""
    pendings = [pixels_of(image) for image in images]

    def write(target: memoryview) -> None:
        start = 0
        for pending in pendings:
            pending.write(target[start : start + pending.n_bytes])
            start += pending.n_bytes

    return Pending(sum(pending.n_bytes for pending in pendings), write)


def images_of(pixels: bytes | memoryview, sizes: Sequence[tuple[int, int]]) -> tuple[Image, ...]:
    """Images with their own copies of the pixels that `pixels_of_all` wrote."""
    images, start = [], 0
    for width, height in sizes:
        end = start + width * height * BYTES_PER_PIXEL
        images.append(image_of(pixels[start:end], (width, height)))
        start = end
    return tuple(images)


def image_of(pixels: bytes | memoryview | None, size: tuple[int, int]) -> Image:
    """An image with its own copy of these pixels; raises `ValueError` when there are too few."""
    from PIL import Image

    return Image.new("RGB", (0, 0))._new(_mapped(pixels or b"", size).copy())


def _mapped(pixels: bytes | memoryview, size: tuple[int, int]) -> Any:
    from PIL import Image

    core: Any = vars(Image)["core"]
    if len(pixels) < size[0] * size[1] * BYTES_PER_PIXEL:
        raise ValueError("too few pixels")
    return core.map_buffer(pixels, size, "raw", 0, ("RGB", size[0] * BYTES_PER_PIXEL, 1))
