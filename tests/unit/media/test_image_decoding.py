"""Images of every format and mode become upright RGB without metadata."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from media.decoding.images import FORMATS, decode
from media.errors import MediaUnreadable

MAX_PIXELS = 50_000_000
Encode = Callable[..., bytes]


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(data: bytes) -> list[tuple[int, ...]]:
    image = decode(data, MAX_PIXELS)
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def first_pixel(data: bytes) -> tuple[int, ...]:
    return pixels(data)[0]


def is_close(found: tuple[int, ...], expected: tuple[int, ...], by: int = 8) -> bool:
    return all(abs(a - b) <= by for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_becomes_plain_rgb(format: str, encoded: Encode) -> None:
    image = decode(encoded(format), MAX_PIXELS)
    assert type(image) is Image.Image
    assert (image.mode, image.size, image.info) == ("RGB", (8, 6), {})
    assert is_close(first_pixel(encoded(format)), RED)


@pytest.mark.parametrize(
    ("format", "mode", "color", "expected"),
    [
        ("PNG", "1", 1, WHITE),
        ("PNG", "L", 100, (100, 100, 100)),
        ("PNG", "LA", (100, 255), (100, 100, 100)),
        ("PNG", "LA", (0, 0), WHITE),
        ("PNG", "LA", (0, 128), (127, 127, 127)),
        ("PNG", "P", 0, (0, 0, 0)),
        ("PNG", "RGBA", (255, 0, 0, 255), RED),
        ("PNG", "RGBA", (0, 0, 0, 0), WHITE),
        ("PNG", "RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("PNG", "I;16", 65_535, WHITE),
        ("PNG", "I;16", 32_768, (128, 128, 128)),
        ("PNG", "I;16", 256, (1, 1, 1)),
        ("GIF", "L", 100, (100, 100, 100)),
        ("WEBP", "RGBA", (0, 0, 0, 0), WHITE),
        ("BMP", "1", 1, WHITE),
        ("BMP", "RGBA", (255, 0, 0, 255), RED),
        ("JPEG", "L", 100, (100, 100, 100)),
        ("JPEG", "CMYK", (0, 255, 255, 0), RED),
        ("JPEG", "YCbCr", (128, 128, 128), (128, 128, 128)),
        ("TIFF", "CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("TIFF", "RGBA", (0, 0, 0, 0), WHITE),
        ("TIFF", "LA", (0, 0), WHITE),
        ("TIFF", "I;16", 65_535, WHITE),
        ("TIFF", "I", 200, (200, 200, 200)),
        ("TIFF", "I", 65_535, WHITE),
        ("TIFF", "F", 0.5, (128, 128, 128)),
        ("TIFF", "F", 200.0, (200, 200, 200)),
    ],
)
def test_every_mode_becomes_rgb_on_white(
    format: str, mode: str, color: Any, expected: tuple[int, ...], encoded: Encode
) -> None:
    assert is_close(first_pixel(encoded(format, mode, (8, 8), color)), expected, by=2)


def test_deep_grey_is_scaled_and_not_clipped() -> None:
    ramp = Image.fromarray(np.array([[0, 257 * 100, 257 * 200, 65_535]], dtype=np.uint16))
    assert [pixel[0] for pixel in pixels(save(ramp, "PNG"))] == [0, 100, 200, 255]
    assert [pixel[0] for pixel in pixels(save(ramp, "TIFF"))] == [0, 100, 200, 255]


def test_deep_grey_in_the_other_byte_order_is_read() -> None:
    tags = [(256, 4, 2), (257, 4, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 122), (278, 4, 1), (279, 4, 4)]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in tags
    )
    directory = struct.pack(">H", len(tags)) + entries + bytes(4)
    tiff = b"MM\0*" + struct.pack(">I", 8) + directory
    assert pixels(tiff.ljust(122, b"\0") + struct.pack(">HH", 257 * 50, 65_535)) == [(50,) * 3, (255,) * 3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 5e29, 1e30], [0, 128, 255]),
        ([float("nan"), float("inf"), float("-inf"), 0.0, 1.0], [0, 255, 0, 0, 255]),
        ([float("nan")], [0]),
    ],
)
def test_floating_point_grey_is_brought_into_range(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert [pixel[0] for pixel in pixels(save(image, "TIFF"))] == expected


def test_whole_numbers_outside_of_16_bits_are_stretched() -> None:
    image = Image.fromarray(np.array([[-100_000, 0, 100_000]], dtype=np.int32))
    assert [pixel[0] for pixel in pixels(save(image, "TIFF"))] == [0, 128, 255]


def test_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    for options in ({"transparency": 0}, {"transparency": b"\x00\xff"}):
        assert pixels(save(image, "PNG", **options)) == [WHITE, GREEN]
    assert pixels(save(image, "GIF", transparency=0)) == [WHITE, GREEN]


def test_transparent_colour_becomes_white(raw_png: Encode) -> None:
    grey = raw_png(2, 1, b"\0\x05\x06", color_type=0, extra={b"tRNS": b"\0\x05"})
    assert pixels(grey) == [WHITE, (6, 6, 6)]
    color = raw_png(2, 1, b"\0\1\2\3\4\5\6", extra={b"tRNS": b"\0\1\0\2\0\3"})
    assert pixels(color) == [WHITE, (4, 5, 6)]


def test_transparent_colour_of_16_bits_becomes_white(raw_png: Encode) -> None:
    grey = raw_png(2, 1, b"\0" + b"\x80\x01" + b"\x80\x00", depth=16, color_type=0, extra={b"tRNS": b"\x80\x01"})
    assert pixels(grey) == [WHITE, (128, 128, 128)]
    rows = b"\0" + b"\x80\x01\x90\x01\xa0\x01" + b"\x10\x00\x20\x00\x30\x00"
    color = raw_png(2, 1, rows, depth=16, extra={b"tRNS": b"\x80\x01\x90\x01\xa0\x01"})
    assert pixels(color) == [WHITE, (16, 32, 48)]


# Where EXIF says that the image's first corner (red) and the end of its first row (green) belong.
CORNERS = {
    1: ("top left", "top right"),
    2: ("top right", "top left"),
    3: ("bottom right", "bottom left"),
    4: ("bottom left", "bottom right"),
    5: ("top left", "bottom left"),
    6: ("top right", "bottom right"),
    7: ("bottom right", "top right"),
    8: ("bottom left", "top left"),
}


@pytest.mark.parametrize("orientation", CORNERS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_image_is_turned_as_exif_says(format: str, orientation: int) -> None:
    image = Image.new("RGB", (48, 32), "white")
    image.paste("red", (0, 0, 16, 16))
    image.paste("lime", (32, 0, 48, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(save(image, format, exif=exif), MAX_PIXELS)
    assert upright.size == ((48, 32) if orientation < 5 else (32, 48))
    right, bottom = upright.width - 5, upright.height - 5
    at = {"top left": (4, 4), "top right": (right, 4), "bottom left": (4, bottom), "bottom right": (right, bottom)}
    red, green = (upright.getpixel(at[corner]) for corner in CORNERS[orientation])
    assert isinstance(red, tuple)
    assert isinstance(green, tuple)
    assert is_close(red, RED, by=30)
    assert is_close(green, GREEN, by=30)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_spoil_the_image(exif: bytes, encoded: Encode) -> None:
    assert is_close(first_pixel(encoded("JPEG", exif=exif)), RED)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_no_metadata_survives(format: str, orientation: int, encoded: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0xA420] = "0" * 32  # ImageUniqueID
    image = decode(encoded(format, exif=exif, icc_profile=b"profile", dpi=(72, 72)), MAX_PIXELS)
    assert type(image) is Image.Image
    assert image.info == {}
    assert dict(image.getexif()) == {}


def test_orientation_out_of_range_is_ignored(encoded: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    assert decode(encoded("PNG", exif=exif), MAX_PIXELS).size == (8, 6)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_several_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {} if format == "TIFF" else {"duration": 100, "lossless": True} if format == "WEBP" else {"duration": 100}
    data = save(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert pixels(data) == [RED] * 64


def test_jpeg_with_several_images_is_read(encoded: Encode) -> None:
    data = save(Image.new("RGB", (16, 16), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    assert is_close(first_pixel(data), RED)


@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1)])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_extreme_sizes_within_the_limit_are_read(format: str, size: tuple[int, int], encoded: Encode) -> None:
    assert decode(encoded(format, size=size), MAX_PIXELS).size == size


def test_bytes_behind_the_image_do_not_matter(encoded: Encode) -> None:
    for tail in (b"<html><script>", b"PK\3\4", b"%PDF-1.7", bytes(1_000)):
        assert first_pixel(encoded("PNG") + tail) == RED


def test_long_thin_jpeg_is_decoded_smaller_without_losing_a_side(encoded: Encode) -> None:
    width, height = decode(encoded("JPEG", size=(30_000, 1)), MAX_PIXELS, 100).size
    assert width >= 100
    assert height == 1


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_other_formats_keep_their_size(format: str, encoded: Encode) -> None:
    assert decode(encoded(format, size=(80, 40)), MAX_PIXELS, 10).size == (80, 40)


@pytest.mark.parametrize(
    "data",
    [
        b"i\xb7\x1d",  # the word "abcd" in base64
        b"hello",
        b"<html><body>404</body></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        b"%PDF-1.7\n",
        b"SIMPLE  =                    T".ljust(2_880),
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(100),
        b"P6 1 1 255 abc",
        b"8BPS\0\1" + bytes(30),
        b"\0\0\1\0\1\0" + bytes(40),
        b"\0",
    ],
)
def test_other_data_is_refused_with_the_readable_formats(data: bytes) -> None:
    with pytest.raises(MediaUnreadable, match="supported are JPEG, PNG, WebP, GIF, BMP and TIFF"):
        decode(data, MAX_PIXELS)
