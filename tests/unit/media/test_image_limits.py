"""Images that are too large, in other formats or damaged are errors, whatever their header says."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from media.decoding.images import FORMATS, decode
from media.errors import MediaError, MediaTooLarge, MediaUnreadable

MAX_PIXELS = 50_000_000
Encode = Callable[..., bytes]


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def huge_bmp() -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, *[0] * 6)


def huge_gif(screen: int, frame: int) -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    return header + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\x00;"


def huge_jpeg(encoded: Encode) -> bytes:
    data = bytearray(encoded("JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 30_000, 30_000)
    return bytes(data)


def huge_webp(encoded: Encode) -> bytes:
    side = struct.pack("<I", 16_383)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + side + side + encoded("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def huge_tiff(encoded: Encode) -> bytes:
    data = encoded("TIFF", size=(30_001, 1))
    one_row = struct.pack("<HHII", 257, 4, 1, 1)
    assert data.count(one_row) == 1
    return data.replace(one_row, struct.pack("<HHII", 257, 4, 1, 30_000))


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "GIF frame", "JPEG", "WEBP", "TIFF"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bomb_is_refused_by_its_header(
    format: str, encoded: Encode, raw_png: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    builders: dict[str, Callable[[], bytes]] = {
        "PNG": lambda: raw_png(30_000, 30_000, b""),
        "BMP": huge_bmp,
        "GIF": lambda: huge_gif(30_000, 1),
        "GIF frame": lambda: huge_gif(1, 30_000),
        "JPEG": lambda: huge_jpeg(encoded),
        "WEBP": lambda: huge_webp(encoded),
        "TIFF": lambda: huge_tiff(encoded),
    }
    data = builders[format]()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_PIXELS"):
        decode(data, MAX_PIXELS)


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_pillows_own_warning_counts_as_too_large(action: Literal["error", "ignore"], raw_png: Encode) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_PIXELS"):
            decode(raw_png(10_000, 10_000, b""), MAX_PIXELS)


def test_pillows_bomb_check_stays_on() -> None:
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_limit_of_pixels_is_exact(encoded: Encode) -> None:
    data = encoded("PNG", size=(40, 50))
    assert decode(data, 2_000).size == (40, 50)
    with pytest.raises(MediaTooLarge, match="40 × 50 pixels"):
        decode(data, 1_999)


def test_running_out_of_memory_is_too_large(encoded: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(MediaTooLarge):
        decode(encoded("BMP"), MAX_PIXELS)


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_bomb_in_a_png_is_bounded(chunk: bytes, raw_png: Encode) -> None:
    bomb = zlib.compress(bytes(10_000_000), 9)
    body = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[chunk] + bomb
    with pytest.raises(MediaUnreadable):
        decode(raw_png(1, 1, b"\0\1\2\3", extra={chunk: body}), MAX_PIXELS)


def test_many_texts_in_a_png_are_bounded(raw_png: Encode) -> None:
    assert PngImagePlugin.MAX_TEXT_MEMORY <= 64 << 20
    data = raw_png(1, 1, b"\0\1\2\3", extra={b"tEXt": b"k\0" + b"x" * 5_000_000})
    assert decode(data, MAX_PIXELS).getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("longest_side", "size"), [(None, (800, 400)), (900, (800, 400)), (300, (400, 200)), (100, (100, 50))]
)
def test_jpeg_is_decoded_smaller_when_that_is_enough(
    longest_side: int | None, size: tuple[int, int], encoded: Encode
) -> None:
    assert decode(encoded("JPEG", size=(800, 400)), MAX_PIXELS, longest_side).size == size


@pytest.mark.parametrize("format", ["PPM", "ICO", "TGA", "PCX", "JPEG2000", "AVIF"])
def test_other_formats_of_pillow_are_off(format: str, encoded: Encode) -> None:
    with pytest.raises(MediaUnreadable, match="supported are"):
        decode(encoded(format, size=(16, 16)), MAX_PIXELS)


def noise(format: str) -> bytes:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return save(image, format)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_image_that_is_cut_off_is_an_error(format: str, share: float) -> None:
    data = noise(format)
    with pytest.raises(MediaUnreadable) as caught:
        decode(data[: int(len(data) * share)], MAX_PIXELS)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_an_error_or_harmless(format: str) -> None:
    data = noise(format)
    random = np.random.default_rng(1)
    messages = []
    for _ in range(60):
        damaged = bytearray(data)
        for position in random.integers(0, min(len(data), 400), 4):
            damaged[position] = random.integers(0, 256)
        try:
            assert decode(bytes(damaged), 1_000_000).mode == "RGB"
        except MediaError as error:
            messages.append(str(error))
    assert all(message.endswith(".") and "0x" not in message for message in messages)
