"""What an image of the demo models' world shows, measured on its pixels: no model is asked.

The background is the colour nearest to the median of the border, the shape's colour the one nearest to the median of
the pixels around the middle. The shape is the one whose outline, drawn into the box around all pixels that are nearer
to the middle's colour than to the border's, has the most pixels in common with them.
"""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

COLOURS = {
    "red": (222, 26, 30),
    "green": (28, 160, 46),
    "blue": (36, 58, 222),
    "yellow": (252, 228, 42),
    "black": (12, 12, 12),
    "white": (244, 244, 244),
    "orange": (250, 140, 16),
    "purple": (132, 38, 168),
    "pink": (252, 160, 192),
    "gray": (140, 140, 140),
}
"""The colours that the image model was trained with, in RGB."""
SHAPES = ("circle", "square", "triangle")
BORDER_PX = 4
MIDDLE_SHARE = 0.06
"""The middle is a square that reaches this share of the shorter side in each direction."""
MIN_SHARE = 0.01
"""A shape that covers less of the image is none."""

Array = Any


class Shown(NamedTuple):
    """What is to be seen; `shape` is empty where there is none."""

    colour: str
    shape: str
    background: str


def shown(png: bytes) -> Shown:
    """Measures an image file."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    height, width = pixels.shape[:2]
    border = np.median(_border(pixels), axis=0)
    half = round(MIDDLE_SHARE * min(width, height))
    centre = pixels[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half].reshape(-1, 3)
    middle = np.median(centre, axis=0)
    inside = np.linalg.norm(pixels - middle, axis=2) < np.linalg.norm(pixels - border, axis=2)
    return Shown(_colour(middle), _shape(inside), _colour(border))


def _border(pixels: Array) -> Array:
    edges = (pixels[:BORDER_PX], pixels[-BORDER_PX:], pixels[:, :BORDER_PX], pixels[:, -BORDER_PX:])
    return np.concatenate([edge.reshape(-1, 3) for edge in edges])


def _colour(rgb: Array) -> str:
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], rgb))


def _shape(inside: Array) -> str:
    """The shape of a mask."""
    if inside.mean() < MIN_SHARE:
        return ""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    y = (np.arange(height)[:, None] + 0.5) / height
    x = (np.arange(width)[None, :] + 0.5) / width
    outlines = {
        "circle": (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25,
        "square": np.ones_like(box),
        "triangle": np.abs(x - 0.5) <= y / 2,
    }
    return max(SHAPES, key=lambda name: (box & outlines[name]).sum() / (box | outlines[name]).sum())
