"""Sizes that keep a shape: within the pixels and multiples of a model, and never visibly distorted."""

from __future__ import annotations

import random

import pytest

from omni.images.shapes import COMMON, MAX_RATIO, Size, following, of_ratio, ratio_of


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("16:9", 16 / 9),
        (" 9 : 16 ", 9 / 16),
        ("16x9", 16 / 9),
        ("16/9", 16 / 9),
        ("1920×1080", 16 / 9),
        ("1.85:1", 1.85),
        ("1.777778", 1.777778),
        ("16：9", 16 / 9),
        ("0", None),
        ("16:1", MAX_RATIO),
        ("17:1", None),
        ("0:1", None),
        ("1:0", None),
        ("0.0:1", None),
        ("-1:1", None),
        ("1:nan", None),
        ("1e3:1", None),
        ("16:9:1", None),
        ("wide", None),
        ("", None),
        ("9" * 5000 + ":1", None),
    ],
)
def test_what_a_ratio_means(text: str, ratio: float | None) -> None:
    assert ratio_of(text) == (None if ratio is None else pytest.approx(ratio))


@pytest.mark.parametrize(
    ("size", "followed"),
    [
        ((640, 256), (640, 256)),
        ((256, 640), (256, 640)),
        ((1000, 1000), (992, 992)),
        ((4032, 3024), (2352, 1760)),
        ((64, 48), (64, 48)),
        ((1, 1), (16, 16)),
        ((20, 30), (32, 48)),
        ((8000, 100), (7680, 96)),
    ],
)
def test_image_keeps_its_size_as_far_as_the_model_can(size: Size, followed: Size) -> None:
    assert following(size, 16, 4 << 20) == followed


@pytest.mark.parametrize("multiple", [1, 8, 16, 32, 64])
@pytest.mark.parametrize("max_pixels", [1 << 16, 1 << 20, 4 << 20])
def test_any_shape_stays_within_the_rules(multiple: int, max_pixels: int) -> None:
    draw = random.Random(multiple * max_pixels)
    for _ in range(500):
        size = draw.randint(1, 10_000), draw.randint(1, 10_000)
        width, height = following(size, multiple, max_pixels)
        assert min(width, height) >= multiple
        assert (width % multiple, height % multiple) == (0, 0)
        assert width * height <= max_pixels
        if max(size) <= 8 * min(size) and max_pixels >= (32 * multiple) ** 2:
            assert width / height == pytest.approx(size[0] / size[1], rel=0.1)


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (65_000, 1)])
def test_shape_that_no_size_can_have_comes_out_as_near_as_possible(size: Size) -> None:
    width, height = following(size, 64, 1 << 16)
    assert (width > height) == (size[0] > size[1])
    assert width * height <= 1 << 16


@pytest.mark.parametrize("name", [*COMMON, "21:9", "1:16"])
def test_computed_sizes_have_the_ratio_and_the_pixels(name: str) -> None:
    ratio = ratio_of(name)
    assert ratio is not None
    width, height = of_ratio(ratio, 1 << 20, 16)
    assert width / height == pytest.approx(ratio, rel=0.03)
    assert 0.9 * (1 << 20) < width * height <= 1 << 20
