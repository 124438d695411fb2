"""Draws the images of the evaluation samples, with code of its own: nothing is imported from the training modules."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageDraw

SHADES: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "crimson", "#c81e1e", "#e62828"),
    "green": ("green", "green", "lime", "limegreen", "forestgreen", "#00c800"),
    "blue": ("blue", "blue", "royalblue", "mediumblue", "dodgerblue", "#3232dc"),
    "yellow": ("yellow", "yellow", "gold", "#f5e132"),
    "black": ("black", "black", "#0f0f0f"),
    "white": ("white", "white", "whitesmoke", "#fafafa"),
    "orange": ("orange", "orange", "darkorange", "#ff8c1e"),
    "purple": ("purple", "purple", "darkviolet", "#781e96"),
    "pink": ("pink", "pink", "hotpink", "lightpink"),
    "gray": ("gray", "gray", "darkgray", "#969696", "#787878"),
}
KINDS = ("circle", "square", "triangle")
CANVASES = ((200, 200), (640, 480), (64, 64), (96, 96), (320, 240), (512, 512), (240, 360), (800, 400), (1024, 768),
            (150, 150), (400, 300), (300, 100), (128, 256), (1000, 1000), (333, 250))  # fmt: skip

Thing = tuple[str, str]


@dataclass(frozen=True)
class Drawing:
    """An image and what is on it: (colour, kind) of every shape."""

    background: str
    things: tuple[Thing, ...]
    image: Image.Image


def draw(rng: random.Random, count: int = 1, thing: Thing | None = None, background: str | None = None) -> Drawing:
    """Draws `count` shapes (the first is `thing` where given) in cells of a grid, on a canvas of a usual size."""
    width, height = rng.choice(CANVASES)
    if count > 1 and min(width, height) < 128:
        width, height = 2 * width, 2 * height
    if background is None:
        background = rng.choice([name for name in SHADES if thing is None or name != thing[0]])
    colours = [name for name in SHADES if name != background]
    things = [(rng.choice(colours), rng.choice(KINDS)) for _ in range(count)]
    if thing is not None:
        things[0] = thing
    factor = rng.choice((1, 1, 3)) if width * height <= 400 * 400 else 1
    image = Image.new("RGB", (width * factor, height * factor), rng.choice(SHADES[background]))
    pen = ImageDraw.Draw(image)
    columns = 1 if count == 1 else 2 if width < 2 * height or count == 4 else count
    rows = math.ceil(count / columns)
    cells = rng.sample([(column, row) for column in range(columns) for row in range(rows)], count)
    for (colour, kind), (column, row) in zip(things, cells, strict=True):
        cell_width, cell_height = image.width / columns, image.height / rows
        size = min(cell_width, cell_height) * (rng.uniform(0.3, 0.85) if count == 1 else rng.uniform(0.45, 0.8))
        left = column * cell_width + rng.uniform(0.04, 0.96) * (cell_width - size)
        top = row * cell_height + rng.uniform(0.04, 0.96) * (cell_height - size)
        _draw_thing(rng, pen, kind, rng.choice(SHADES[colour]), left, top, size)
    if factor > 1:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return Drawing(background, tuple(things), image)


def _draw_thing(
    rng: random.Random, pen: ImageDraw.ImageDraw, kind: str, fill: str, left: float, top: float, size: float
) -> None:
    right, bottom = left + size, top + size
    rim = ImageColor.getrgb("black") if rng.random() < 0.06 and fill not in ("black", "#0f0f0f") else None
    if kind == "circle":
        pen.ellipse((left, top, right, bottom), fill=fill, outline=rim)
    elif kind == "square":
        if rng.random() < 0.15:
            pen.regular_polygon(((left + right) / 2, (top + bottom) / 2, size / 2), 4, rng.randint(-12, 12), fill, rim)
        else:
            pen.rectangle((left, top, right, bottom), fill=fill, outline=rim)
    else:
        corners = rng.choice(
            (
                ((left, bottom), (right, bottom), ((left + right) / 2, top)),
                ((left, bottom), (right, bottom), ((left + right) / 2, top)),
                ((left, top), (right, top), ((left + right) / 2, bottom)),
                ((left, top), (left, bottom), (right, bottom)),
                ((left, top), (right, top), (right, bottom)),
                ((left, top), (left, bottom), (right, (top + bottom) / 2)),
            )
        )
        pen.polygon(corners, fill=fill, outline=rim)
