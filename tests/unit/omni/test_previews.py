from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from media.errors import MediaError
from omni.errors import InvalidResponse
from omni.images.previews import PREVIEW_BYTES, checked, contact_sheet, full_preview, small_preview
from tests.decoder import DECODER
from tests.scripted_omni import png

pytestmark = pytest.mark.slow


def noise(width: int, height: int) -> bytes:
    """An image that nothing can compress."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("size", "shown"), [((64, 32), (64, 32)), ((3000, 1500), (1024, 512)), ((1, 4000), (1, 1024))])
def test_small_preview_is_a_jpeg_of_bounded_size(size: tuple[int, int], shown: tuple[int, int]) -> None:
    preview = small_preview(png(size), DECODER)
    assert preview.mime_type == "image/jpeg"
    assert opened(preview.data).size == shown


def test_small_preview_of_noise_stays_below_its_limit() -> None:
    assert len(small_preview(noise(1400, 1400), DECODER).data) <= PREVIEW_BYTES


def test_full_preview_is_the_file_itself_or_a_jpeg_or_nothing() -> None:
    data = png((900, 900))
    shown = full_preview(data, 700_000, DECODER)
    assert shown is not None
    assert (shown.data, shown.mime_type) == (data, "image/png")
    large = full_preview(noise(700, 700), 700_000, DECODER)
    assert large is not None
    assert large.mime_type == "image/jpeg"
    assert opened(large.data).size == (700, 700)
    assert len(large.data) <= 700_000
    assert full_preview(noise(2500, 2500), 300_000, DECODER) is None
    assert full_preview(png((9000, 16)), 700_000, DECODER) is None


@pytest.mark.parametrize("n_images", [2, 3, 4, 5, 20])
def test_contact_sheet_shows_all_in_rows(n_images: int) -> None:
    colours = [(n * 12, 255 - n * 12, 128) for n in range(n_images)]
    files = []
    for colour in colours:
        buffer = io.BytesIO()
        Image.new("RGB", (300, 200), colour).save(buffer, "PNG")
        files.append(buffer.getvalue())
    sheet = opened(contact_sheet(files, range(n_images), DECODER).data)
    assert max(sheet.size) <= 1024
    for colour in colours:
        assert min(_distance(colour, pixel) for _, pixel in sheet.getcolors(1 << 20) or []) < 20


def coloured(size: tuple[int, int], colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def share(sheet: Any, is_it: Callable[[Any], bool]) -> float:
    counted = sheet.getcolors(1 << 20)
    return float(sum(n for n, pixel in counted if is_it(pixel)) / (sheet.width * sheet.height))


def is_white(pixel: Any) -> bool:
    return bool(min(pixel) > 240)


@pytest.mark.parametrize(
    ("size", "n_images"), [((64, 64), 9), ((64, 64), 4), ((1024, 576), 5), ((300, 900), 6), ((1024, 1024), 16)]
)
def test_contact_sheet_is_as_large_as_its_images_need(size: tuple[int, int], n_images: int) -> None:
    sheet = opened(contact_sheet([coloured(size, "red")] * n_images, range(n_images), DECODER).data)
    assert max(sheet.size) <= 1024
    assert share(sheet, is_white) < (0.5 if n_images != 5 else 0.6)
    if max(size) == 64:
        side = round(n_images**0.5)
        assert sheet.size == (side * 72 + 8, side * 92 + 8)


def test_contact_sheet_has_the_numbers_above_the_images() -> None:
    files = [coloured((64, 64), "red")] * 2
    first, second = (opened(contact_sheet(files, numbers, DECODER).data) for numbers in ((0, 7), (0, 17)))
    above = [sheet.crop((8, 8, 72, 28)) for sheet in (first, second)]
    assert above[0].tobytes() == above[1].tobytes()
    for sheet in (first, second):
        for left in (8, 80):
            assert share(sheet.crop((left, 8, left + 64, 26)), lambda pixel: max(pixel) < 90) > 0.01
    assert first.crop((80, 8, 144, 28)).tobytes() != second.crop((80, 8, 144, 28)).tobytes()


def _distance(colour: tuple[int, int, int], pixel: Any) -> int:
    return sum(abs(a - b) for a, b in zip(colour, pixel, strict=True))


@pytest.mark.parametrize("data", [b"", b"<html>", png()[:50], b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidResponse):
        checked(data, DECODER)
    with pytest.raises(MediaError):
        small_preview(data, DECODER)


def test_checked_image_is_the_very_file() -> None:
    data = png((12, 34))
    assert checked(data, DECODER) == checked(data, DECODER)
    assert (checked(data, DECODER).png, checked(data, DECODER).width, checked(data, DECODER).height) == (data, 12, 34)
