"""What images of one shape show, measured on their pixels."""

from __future__ import annotations

import pytest

from benchmarks.measured_shapes import COLOURS, SHAPES, Shown, shown
from tests.e2e.images import drawn, png


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [96, 128, 240])
def test_shape_and_colours_are_found(shape: str, size: int) -> None:
    assert shown(png(drawn("yellow", shape, "purple", size))) == Shown("purple", shape, "yellow")


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_is_known_by_its_name(colour: str) -> None:
    ground = "white" if colour != "white" else "black"
    assert shown(png(drawn(ground, "circle", colour))) == Shown(colour, "circle", ground)


def test_an_image_without_a_shape_has_none() -> None:
    assert shown(png(drawn("blue", None))) == Shown("blue", "", "blue")
