"""Decodes images to upright RGB, after checking the size in the header.

The format is detected from the content, never from a name or a declared type. Only the formats listed here reach a
decoder; Pillow's others (FITS, EPS, PSD and more) have a history of memory errors (CVE-2026-40192, CVE-2026-42309).

The size in the header does not bound the cost of decoding: a tile may be larger than its image, strips may overlap, and
empty scans may be repeated a million times. So this runs in a child of the sandbox, except for `safe_images`.
"""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING, cast

from media.decoding.webp import canvas_size
from media.errors import MediaTooLarge, MediaUnreadable
from sandbox.memory import allowance

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
READABLE = "JPEG, PNG, WebP, GIF, BMP and TIFF"
OPENING_BYTES = 64 << 20
"""Memory for reading the header, and for everything that does not grow with the image."""
BYTES_PER_PIXEL = 24
"""Memory for decoding: a progressive JPEG's coefficients take 6 bytes per pixel, a transparent image on white 12, a
floating-point image 17, and the result 4 more."""
_EXIF_ORIENTATION = 0x0112
_LARGEST = 3.4028234663852886e38
"""The largest number of a floating-point image, which has 32 bits per pixel."""


def memory_bytes(n_pixels: int) -> int:
    """Memory that decoding an image of `n_pixels` may take."""
    return OPENING_BYTES + n_pixels * BYTES_PER_PIXEL


def decode(
    data: bytes | memoryview, max_pixels: int, longest_side: int | None = None, orientation: int | None = None
) -> Image:
    """Decodes the first frame or page: rotated as its EXIF data says, on white, RGB, without metadata.

    Arguments:
        max_pixels: checked against the header, before any pixel is decoded.
        longest_side: a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as its longest side
            keeps at least this many pixels.
        orientation: the EXIF orientation, if known; EXIF data are then not read.

    Raises: `MediaTooLarge` or `MediaUnreadable`.
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
            # The opened image keeps metadata such as EXIF data, where vLLM's cache looks for an ImageID. Copying the
            # pixels would drop them too, but holds the GIL.
            result = rgb._new(rgb.im) if rgb is image else rgb
            result.info = {}
            return result
    except MediaTooLarge:
        raise
    except MemoryError as error:
        raise MediaTooLarge("The image needs more memory to decode than is allowed for its size.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaTooLarge(
            f"The image has more pixels than the {max_pixels} that VLLM_MAX_IMAGE_PIXELS allows."
        ) from error
    except UnidentifiedImageError:
        raise MediaUnreadable(f"This is not an image in a supported format; supported are {READABLE}.") from None
    except Exception as error:
        # Pillow's plugins raise many types of errors, and their texts may contain memory addresses (CVE-2026-22778).
        raise MediaUnreadable("The image is damaged or cut off, or in a rare format that is not supported.") from error


def prepare() -> None:
    """Imports the plugins of the supported formats, so that Pillow does not load its 40 others."""
    for name in ("Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP"):
        importlib.import_module(f"PIL.{name}ImagePlugin")


def _open(data: bytes | memoryview) -> ImageFile:
    from PIL import Image

    prepare()
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _admit(size: tuple[int, int], max_pixels: int) -> None:
    """Checks the size that a header declares, and allows the memory for it."""
    width, height = size
    if width * height > max_pixels:
        raise MediaTooLarge(
            f"The image has {width} × {height} pixels; VLLM_MAX_IMAGE_PIXELS allows {max_pixels} in all."
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
        # Broken EXIF data are common in images that are otherwise valid.
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
        # A PNG with 16 bits per channel: Pillow converts the pixels to 8 bits, but not the transparent colour.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        flat = new("RGB", image.size, "white")
        flat.paste(rgba, mask=rgba)
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_rgb(image: Image) -> Image:
    """Scales 16-bit, 32-bit or floating-point grey to 8 bits; Pillow's own conversion clips it."""
    if image.mode.startswith("I;"):
        transparent = image.info.get("transparency")
        table = [255 if depth == transparent else depth >> 8 for depth in range(1 << 16)]
        return image.convert("I").point(table, "L").convert("RGB")
    if image.mode == "F":
        return _stretched(*_finite(image), (1.0, 255.0)).convert("RGB")
    return _stretched(image, *_extrema(image), (255.0, 65_535.0)).convert("RGB")


def _stretched(image: Image, low: float, high: float, usual_maxima: tuple[float, ...]) -> Image:
    """Scales values from `low` to `high` to 0–255: from the smallest usual range with them, else from their own."""
    if low >= 0:
        low, high = next(((0.0, usual) for usual in usual_maxima if high <= usual), (low, high))
    scale = 255.0 / ((high - low) or 1.0)
    return image.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")


def _finite(image: Image) -> tuple[Image, float, float]:
    """A floating-point image whose -∞ and NaN are its lowest number and whose ∞ is its highest; and these numbers."""
    from PIL.Image import new
    from PIL.ImageMath import lambda_eval

    is_finite = _mask(lambda_eval(lambda given: abs(given["image"]) <= _LARGEST, image=image))

    def others(value: float) -> Image:
        filled = new("F", image.size, value)
        filled.paste(image, mask=is_finite)
        return filled

    low, high = _extrema(others(_LARGEST))[0], _extrema(others(-_LARGEST))[1]
    if low > high:
        low, high = 0.0, 1.0
    finite = others(low)
    finite.paste(high, mask=_mask(lambda_eval(lambda given: given["image"] > _LARGEST, image=image)))
    return finite, low, high


def _extrema(image: Image) -> tuple[float, float]:
    """The lowest and the highest value of grey."""
    low, high = cast("tuple[float, float]", image.getextrema())
    return float(low), float(high)


def _mask(ones: Image) -> Image:
    """An image of zeros and ones as a mask."""
    from PIL.Image import Dither

    return ones.point(lambda value: value * 255).convert("L").convert("1", dither=Dither.NONE)
