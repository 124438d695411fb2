from __future__ import annotations

import io
import os
from typing import Any

import pytest
from PIL import Image

from media.errors import MediaError
from omni.errors import UnusableAnswer
from omni.pictures import PREVIEW_BYTES, checked, contact_sheet, full_preview, small_preview
from tests.decoder import DECODER
from tests.scripted_omni import png


def noise(width: int, height: int) -> bytes:
    """A picture that nothing can compress."""
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


@pytest.mark.parametrize("n_pictures", [2, 3, 4, 5, 20])
def test_contact_sheet_shows_all_in_rows(n_pictures: int) -> None:
    colours = [(n * 12, 255 - n * 12, 128) for n in range(n_pictures)]
    files = []
    for colour in colours:
        buffer = io.BytesIO()
        Image.new("RGB", (300, 200), colour).save(buffer, "PNG")
        files.append(buffer.getvalue())
    sheet = opened(contact_sheet(files, DECODER).data)
    assert max(sheet.size) <= 1024
    for colour in colours:
        assert min(_distance(colour, pixel) for _, pixel in sheet.getcolors(1 << 20) or []) < 20


def _distance(colour: tuple[int, int, int], pixel: Any) -> int:
    return sum(abs(a - b) for a, b in zip(colour, pixel, strict=True))


@pytest.mark.parametrize("data", [b"", b"<html>", png()[:50], b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(UnusableAnswer):
        checked(data, DECODER)
    with pytest.raises(MediaError):
        small_preview(data, DECODER)


def test_checked_picture_is_the_very_file() -> None:
    data = png((12, 34))
    assert checked(data, DECODER) == checked(data, DECODER)
    assert (checked(data, DECODER).png, checked(data, DECODER).width, checked(data, DECODER).height) == (data, 12, 34)
