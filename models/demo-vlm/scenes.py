"""Scenes: coloured shapes on a coloured background, drawn at random together with a record of what was drawn.

This module does not know questions, tokens or the model. Every choice comes
from the `random.Random` that the caller passes, so a seed fixes an image.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")

# Several anchors a colour: what a caller's own code is likely to write (pure RGB, CSS names) and common variations.
COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (255, 0, 0), (220, 30, 30), (220, 20, 60), (200, 0, 0), (230, 57, 70), (178, 34, 34)),
    "green": ((0, 128, 0), (0, 255, 0), (0, 200, 0), (50, 205, 50), (30, 170, 50), (34, 139, 34), (0, 100, 0)),
    "blue": ((0, 0, 255), (0, 0, 255), (40, 60, 220), (65, 105, 225), (30, 144, 255), (0, 0, 160), (0, 0, 205)),
    "yellow": ((255, 255, 0), (255, 255, 0), (240, 220, 40), (255, 215, 0), (250, 230, 60), (230, 230, 20)),
    "black": ((0, 0, 0), (0, 0, 0), (10, 10, 10), (25, 25, 25)),
    "white": ((255, 255, 255), (255, 255, 255), (245, 245, 245), (236, 236, 236)),
    "orange": ((255, 165, 0), (255, 165, 0), (255, 140, 0), (250, 140, 20), (255, 127, 0), (240, 130, 40)),
    "purple": ((128, 0, 128), (128, 0, 128), (130, 40, 160), (148, 0, 211), (138, 43, 226), (160, 32, 240)),
    "pink": ((255, 192, 203), (255, 192, 203), (250, 150, 190), (255, 105, 180), (255, 182, 193)),
    "gray": ((128, 128, 128), (128, 128, 128), (150, 150, 150), (170, 170, 170), (110, 110, 110), (160, 160, 160)),
}
COLOUR_NAMES = tuple(COLOURS)

USUAL_SIZES = (
    (64, 64), (96, 96), (100, 100), (128, 128), (200, 200), (224, 224), (256, 256), (300, 300), (320, 240), (400, 300),
    (336, 336), (400, 400), (300, 200), (200, 300), (512, 512), (640, 480), (480, 640), (256, 128), (128, 256),
)  # fmt: skip
MAX_SHAPES = 4

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """One drawn shape: what it is called and its outline as fractions of the image's width and height."""

    kind: str
    colour: str
    outline: tuple[Point, ...] = field(repr=False)

    @property
    def centre(self) -> Point:
        """The mean of the outline's corners, as fractions of width and height."""
        return (
            sum(x for x, _ in self.outline) / len(self.outline),
            sum(y for _, y in self.outline) / len(self.outline),
        )


@dataclass(frozen=True)
class Scene:
    """What an image shows."""

    background: str
    shapes: tuple[Shape, ...]

    def oriented(self, quarter_turns: int, mirrored: bool) -> Scene:
        """The scene after that many quarter turns to the left and, after them, a flip from left to right."""
        shapes = self.shapes
        for _ in range(quarter_turns):
            shapes = tuple(replace(s, outline=tuple((y, 1 - x) for x, y in s.outline)) for s in shapes)
        if mirrored:
            shapes = tuple(replace(s, outline=tuple((1 - x, y) for x, y in s.outline)) for s in shapes)
        return Scene(self.background, shapes)


def draw_scene(rng: random.Random) -> tuple[Scene, Image.Image]:
    """Draws one random scene.

    Returns the record and the image (RGB, 64 to 1,024 pixels a side, at most about 4:1).
    """
    width, height = _image_size(rng)
    scene = draw_record(rng, width, height)
    return scene, _paint(rng, scene, width, height)


def draw_record(rng: random.Random, width: int = 256, height: int = 256) -> Scene:
    """The record of a random scene for an image of that size, without the image."""
    background = rng.choice(COLOUR_NAMES)
    count = rng.choices(range(MAX_SHAPES + 1), weights=(5, 55, 16, 13, 11))[0]
    outlines = _place_outlines(rng, width, height, count)
    palette = [name for name in COLOUR_NAMES if name != background]
    shapes = []
    for kind, outline in outlines:
        shapes.append(Shape(kind, rng.choice(palette), tuple((x / width, y / height) for x, y in outline)))
    return Scene(background, tuple(shapes))


def shade(rng: random.Random, colour: str) -> Colour:
    """A random RGB value that people would call `colour`; half of the time exactly one of the anchors."""
    anchor = rng.choice(COLOURS[colour])
    if rng.random() < 0.5:
        return anchor
    if colour in ("black", "white", "gray"):
        # One shift for all channels keeps it neutral; the small extra one is what JPEG and cameras add.
        common = rng.randint(-12, 12)
        return _clip(tuple(value + common + rng.randint(-3, 3) for value in anchor))
    return _clip(tuple(value + rng.randint(-14, 14) for value in anchor))


def _clip(values: tuple[int, ...]) -> Colour:
    red, green, blue = (max(0, min(255, value)) for value in values)
    return red, green, blue


def _image_size(rng: random.Random) -> tuple[int, int]:
    if rng.random() < 0.45:
        return rng.choice(USUAL_SIZES)
    longest = round(math.exp(rng.uniform(math.log(64), math.log(1024 if rng.random() < 0.15 else 480))))
    aspect = rng.choice((1.0, rng.uniform(1.0, 2.0), rng.uniform(1.0, 4.0)))
    shortest = max(min(64, longest), round(longest / aspect))
    return (longest, shortest) if rng.random() < 0.5 else (shortest, longest)


def _place_outlines(rng: random.Random, width: int, height: int, count: int) -> list[tuple[str, list[Point]]]:
    """Places up to `count` shapes that do not touch; fewer where there is no room."""
    side = min(width, height)
    low, high = _radii(count, elongated=max(width, height) / side > 1.8)
    placed: list[tuple[float, float, float]] = []
    outlines: list[tuple[str, list[Point]]] = []
    for _ in range(count * 30):
        if len(outlines) == count:
            break
        kind = rng.choice(SHAPES)
        # A square fills a smaller box than a circle of its radius does.
        radius = max(side * rng.uniform(low, high * (1.35 if kind == "square" and count == 1 else 1.0)), 6.0)
        outline = _outline(rng, kind, 0.0, 0.0, radius)
        left, top, right, bottom = _box(outline)
        if right - left >= width - 1 or bottom - top >= height - 1:
            continue
        x, y = rng.uniform(-left, width - 1 - right), rng.uniform(-top, height - 1 - bottom)
        gap = 0.03 * side + 2
        if any(math.hypot(x - px, y - py) < radius + pr + gap for px, py, pr in placed):
            continue
        placed.append((x, y, radius))
        outlines.append((kind, [(x + dx, y + dy) for dx, dy in outline]))
    return outlines


def _radii(count: int, elongated: bool) -> tuple[float, float]:
    """The smallest and largest radius as shares of the image's shorter side."""
    if count == 1:
        return (0.18 if elongated else 0.10), 0.49
    if elongated:
        return 0.16, 0.42
    return 0.09, (0.32 if count == 2 else 0.26)


def _outline(rng: random.Random, kind: str, x: float, y: float, radius: float) -> list[Point]:
    """Corners of a shape inside the circle of `radius` around (x, y)."""
    if kind == "circle":
        return [
            (x + radius * math.cos(2 * math.pi * step / 48), y + radius * math.sin(2 * math.pi * step / 48))
            for step in range(48)
        ]
    if kind == "square":
        turn = rng.choices((0.0, rng.uniform(-20, 20), rng.uniform(-45, 45)), weights=(65, 25, 10))[0]
        angles = [45 + turn, 135 + turn, 225 + turn, 315 + turn]
    else:
        angles = _triangle_angles(rng)
    return [
        (x + radius * math.cos(math.radians(angle)), y + radius * math.sin(math.radians(angle))) for angle in angles
    ]


def _triangle_angles(rng: random.Random) -> list[float]:
    """Directions of the three corners as seen from the centre of the circle through them (y points down)."""
    style = rng.random()
    if style < 0.35:
        apex, spread = -90.0, rng.uniform(95, 145)
    elif style < 0.50:
        apex, spread = 90.0, rng.uniform(95, 145)
    elif style < 0.62:
        apex, spread = rng.choice((0.0, 180.0)), rng.uniform(95, 145)
    elif style < 0.82:
        # Right-angled with two sides along the axes: the long side is a diameter.
        half = rng.uniform(30, 60)
        corner = rng.choice((45.0, 135.0, 225.0, 315.0)) + (half - 45)
        mirrored = 2 * (90 * round(corner / 90)) - corner
        return [corner, corner + 180, rng.choice((mirrored, mirrored + 180))]
    else:
        apex, spread = rng.uniform(0, 360), rng.uniform(100, 140)
    return [apex, apex + spread, apex - spread]


def _paint(rng: random.Random, scene: Scene, width: int, height: int) -> Image.Image:
    scale = 2 if width * height <= 320 * 320 and rng.random() < 0.5 else 1
    canvas = Image.new("RGB", (width * scale, height * scale), shade(rng, scene.background))
    pen = ImageDraw.Draw(canvas)
    hollow = rng.random() < 0.05
    rimmed = rng.random() < 0.10
    for shape in scene.shapes:
        corners = [(x * width * scale, y * height * scale) for x, y in shape.outline]
        extent = min(width, height) * scale
        fill = shade(rng, shape.colour)
        if hollow:
            _stroke(pen, shape.kind, corners, fill, max(3 * scale, round(extent * rng.uniform(0.025, 0.05))))
            continue
        _fill(pen, shape.kind, corners, fill)
        if rimmed:
            rim = rng.choice([(0, 0, 0), (255, 255, 255), (60, 60, 60)])
            _stroke(pen, shape.kind, corners, rim, max(1, round(extent * rng.uniform(0.004, 0.012))))
    if scale > 1:
        canvas = canvas.resize((width, height), Image.Resampling.BOX)
    return _degrade(rng, canvas)


def _box(corners: list[Point]) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _fill(pen: ImageDraw.ImageDraw, kind: str, corners: list[Point], colour: Colour) -> None:
    if kind == "circle":
        pen.ellipse(_box(corners), fill=colour)
    else:
        pen.polygon(corners, fill=colour)


def _stroke(pen: ImageDraw.ImageDraw, kind: str, corners: list[Point], colour: Colour, width: int) -> None:
    if kind == "circle":
        pen.ellipse(_box(corners), outline=colour, width=width)
    else:
        pen.line([*corners, corners[0], corners[1]], fill=colour, width=width, joint="curve")


def _degrade(rng: random.Random, image: Image.Image) -> Image.Image:
    """Sometimes adds what cameras and codecs add: a little noise, JPEG artefacts."""
    if rng.random() < 0.12 and image.width * image.height <= 400 * 400:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 9), (image.height, image.width, 3))
        pixels = np.asarray(image, dtype=np.float64) + noise
        image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    if rng.random() < 0.12:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(45, 95))
        image = Image.open(buffer).convert("RGB")
    return image
