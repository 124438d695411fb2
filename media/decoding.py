"""Encoded bytes become an upright RGB picture, as far as the header promises one within the limits.

The bytes decide what a picture is, never its name or declared type. Only the formats listed here reach a decoder;
the others of Pillow (FITS, EPS, PSD and more) have a history of memory faults (CVE-2026-40192, CVE-2026-42309).

A header within the limits says little about what decoding takes: a tile may be larger than its picture, strips may
overlap, a scan may be empty and come a million times. So this runs in a child of the sandbox, but for what
`plain_images` finds to be harmless.
"""

from __future__ import annotations

import importlib
import io
import os
from typing import TYPE_CHECKING, Any

from media.errors import MediaTooLarge, MediaUnreadable
from media.webp import canvas_size
from sandbox.memory import allowance

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
READABLE = "JPEG, PNG, WebP, GIF, BMP and TIFF"
OPENING_BYTES = 64 << 20
"""Memory for reading a header, and for what does not grow with the picture."""
BYTES_PER_PIXEL = 24
"""Memory for decoding: a progressive JPEG's coefficients take 6 bytes a pixel, a transparent picture on white 12, a
picture of floating point 17, and the result 4 more, which is turned and handed over."""
_EXIF_ORIENTATION = 0x0112


def memory_bytes(n_pixels: int) -> int:
    """Memory that a child may take for a picture of so many pixels."""
    return OPENING_BYTES + n_pixels * BYTES_PER_PIXEL


def decode(
    data: bytes | memoryview, max_pixels: int, longest_side: int | None = None, orientation: int | None = None
) -> Image:
    """Decodes the first frame or page: turned as its EXIF data says, flattened on white, RGB, without metadata.

    `max_pixels` is checked against the header, before any pixel is decoded. With `longest_side`, a JPEG may be decoded
    at half, a quarter or an eighth of its size, as long as its longest side stays at or above that many pixels. Where
    `orientation` is given, EXIF data are not looked at.

    Raises `MediaTooLarge` or `MediaUnreadable`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if (size := canvas_size(data)) is not None:
            _admit(size, max_pixels)
        with _open(data) as image:
            _admit(image.size, max_pixels)
            if longest_side is not None:
                _draft(image, longest_side)
            image.load()
            rgb = _upright(_to_rgb(image), _orientation(image) if orientation is None else orientation)
            # A file's own image keeps what else the file holds, such as EXIF data, where vLLM's cache looks for an
            # ImageID. Copying its pixels would leave that behind as well, but holds Python's lock meanwhile.
            plain = rgb._new(rgb.im) if rgb is image else rgb
            plain.info = {}
            return plain
    except MediaTooLarge:
        raise
    except MemoryError as error:
        raise MediaTooLarge("The picture takes more memory to decode than its size allows.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaTooLarge(
            f"The picture has more pixels than the {max_pixels} that VLLM_MAX_IMAGE_PIXELS allows."
        ) from error
    except UnidentifiedImageError:
        raise MediaUnreadable(f"This is not a picture in a readable format; readable are {READABLE}.") from None
    except Exception as error:
        # Pillow's plugins raise many kinds of errors, and their texts may hold addresses (CVE-2026-22778).
        raise MediaUnreadable("The picture is damaged or cut off, or it is of a rare kind that is not read.") from error


def prepare() -> None:
    """Imports what decoding needs; with these plugins in place, Pillow does not go on to load its 40 others."""
    for name in ("Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP"):
        importlib.import_module(f"PIL.{name}ImagePlugin")


def _open(data: bytes | memoryview) -> ImageFile:
    from PIL import Image

    prepare()
    file: Any = io.BytesIO(data) if isinstance(data, bytes) else _ViewedFile(data)
    return Image.open(file, formats=FORMATS)


class _ViewedFile:
    """Shared memory as a file that is read: `BytesIO` would copy all of it first."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Reads as a file does."""
        end = len(self._view) if size < 0 else self._at + size
        piece = bytes(self._view[self._at : end])
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves as a file does."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def close(self) -> None:
        """Lets go of the memory."""
        self._view = memoryview(b"")


def _admit(size: tuple[int, int], max_pixels: int) -> None:
    """Checks a size that a header declares, and allows the memory that it takes."""
    width, height = size
    if width * height > max_pixels:
        raise MediaTooLarge(
            f"The picture has {width} × {height} pixels; VLLM_MAX_IMAGE_PIXELS allows {max_pixels} in all."
        )
    allowance.allow(memory_bytes(width * height))


def _draft(image: ImageFile, longest_side: int) -> None:
    scale = longest_side / max(image.size)
    if scale < 1:
        image.draft(None, (max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _orientation(image: Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # Broken EXIF data is common, and the picture itself is fine.
        return 1


def _upright(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _to_rgb(image: Image) -> Image:
    from PIL.Image import new

    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _grey_to_rgb(image)
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        # A PNG of 16 bits a channel: Pillow narrows the pixels to 8 bits, but not the transparent colour.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        flat = new("RGB", image.size, "white")
        flat.paste(rgba, mask=rgba)
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_rgb(image: Image) -> Image:
    """Scales grey of 16 bits, 32 bits or floating point to 8 bits; Pillow's own conversion would clip it."""
    allowance.load("numpy")
    import numpy as np
    from PIL.Image import fromarray

    if image.mode.startswith("I;"):
        depth = np.asarray(image)
        grey = (depth >> 8).astype(np.uint8)
        if "transparency" in image.info:
            grey[depth == image.info["transparency"]] = 255
    else:
        grey = _stretched(np.array(image, dtype=np.float64), (1.0, 255.0) if image.mode == "F" else (255.0, 65_535.0))
    return fromarray(grey).convert("RGB")


def _stretched(values: Any, usual_maxima: tuple[float, ...]) -> Any:
    """Brings values to 0–255, from the smallest usual range that holds them, else from their own range."""
    import numpy as np

    finite = np.isfinite(values)
    low = float(np.min(values, where=finite, initial=np.inf))
    high = float(np.max(values, where=finite, initial=-np.inf))
    if low > high:
        low = high = 0.0
    if low >= 0:
        low, high = next(((0.0, usual) for usual in usual_maxima if high <= usual), (low, high))
    np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    values -= low
    values *= 255.0 / ((high - low) or 1.0)
    return np.rint(values, out=values).astype(np.uint8)
