"""The world of the images: one shape of a colour on a plain background of another, painted as tensors.

This module knows geometry, colours and their names; it does not know prompts or the model. A scene is two colours,
a shape, and five numbers between 0 and 1 for what a prompt does not specify: place, size and shades.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle")
COLOURS: dict[str, tuple[int, int, int]] = {
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
COLOUR_NAMES = tuple(COLOURS)

# What a prompt leaves open, in the order of a scene's numbers: two offsets, the size and the two shades.
FREE_NUMBERS = 5
OFFSET_SHARE, SHADE_RANGE = 0.11, 10.0
RADIUS_SHARES = (0.23, 0.35)
# Factors that make the shapes of one radius look equally large.
SQUARE_FACTOR, TRIANGLE_FACTOR = 0.88, 1.22


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes: names as indices into `SHAPES` and `COLOUR_NAMES` (N,), and the free numbers (N, 5)."""

    kinds: Tensor
    colours: Tensor
    backgrounds: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, rows: Tensor | slice) -> Scenes:
        return Scenes(self.kinds[rows], self.colours[rows], self.backgrounds[rows], self.numbers[rows])


def random_scenes(count: int, generator: torch.Generator) -> Scenes:
    """`count` scenes, every combination of names equally likely, the two colours always different."""
    colours = torch.randint(len(COLOURS), (count,), generator=generator)
    others = torch.randint(1, len(COLOURS), (count,), generator=generator)
    kinds = torch.randint(len(SHAPES), (count,), generator=generator)
    numbers = torch.rand(count, FREE_NUMBERS, generator=generator)
    return Scenes(kinds, colours, (colours + others) % len(COLOURS), numbers)


def paint(scenes: Scenes, width: int, height: int) -> Tensor:
    """The images of scenes, (N, 3, height, width) between -1 and 1."""
    side = min(width, height)
    signed = 2 * scenes.numbers - 1
    centres = torch.stack(
        [width / 2 + OFFSET_SHARE * side * signed[:, 0], height / 2 + OFFSET_SHARE * side * signed[:, 1]], 1
    )
    low, high = RADIUS_SHARES
    radii = side * (low + (high - low) * scenes.numbers[:, 2])
    canvas = _rgb(scenes.backgrounds, signed[:, 3])[:, :, None, None].expand(-1, -1, height, width)
    inside = coverage(scenes.kinds, centres, radii, torch.zeros(len(scenes)), width, height)
    return _to_unit(blend(canvas, _rgb(scenes.colours, signed[:, 4]), inside))


def paint_clutter(count: int, width: int, height: int, generator: torch.Generator) -> Tensor:
    """Images outside the world: any colours, up to three rotated shapes at any place."""
    anchors = torch.tensor(list(COLOURS.values()), dtype=torch.float32)

    def colours() -> Tensor:
        named = anchors[torch.randint(len(anchors), (count,), generator=generator)]
        free = 255 * torch.rand(count, 3, generator=generator)
        return torch.where(torch.rand(count, 1, generator=generator) < 0.6, named, free)

    side = min(width, height)
    canvas = colours()[:, :, None, None].expand(-1, -1, height, width)
    for _ in range(3):
        kinds = torch.randint(len(SHAPES), (count,), generator=generator)
        centres = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
        radii = side * (0.08 + 0.35 * torch.rand(count, generator=generator))
        turns = 6.3 * torch.rand(count, generator=generator)
        shown = (torch.rand(count, generator=generator) < 0.6)[:, None, None]
        canvas = blend(canvas, colours(), shown * coverage(kinds, centres, radii, turns, width, height))
    return _to_unit(canvas)


def coverage(kinds: Tensor, centres: Tensor, radii: Tensor, turns: Tensor, width: int, height: int) -> Tensor:
    """How much of every pixel a shape covers, (N, height, width) between 0 and 1; `turns` are in radians."""
    x = torch.arange(width) + 0.5 - centres[:, 0, None, None]
    y = (torch.arange(height) + 0.5)[:, None] - centres[:, 1, None, None]
    cosine, sine = torch.cos(turns)[:, None, None], torch.sin(turns)[:, None, None]
    x, y = cosine * x + sine * y, cosine * y - sine * x
    radius = radii[:, None, None]
    circle = torch.hypot(x, y) - radius
    square = torch.maximum(x.abs(), y.abs()) - SQUARE_FACTOR * radius
    # Upright and equilateral; moved down so that its box, not its centre of mass, is in the middle.
    reach, drop = TRIANGLE_FACTOR * radius, 0.25 * TRIANGLE_FACTOR * radius
    triangle = torch.maximum(y - drop - reach / 2, 0.75**0.5 * x.abs() - (y - drop) / 2 - reach / 2)
    kind = kinds[:, None, None]
    distance = torch.where(kind == 0, circle, torch.where(kind == 1, square, triangle))
    return (0.5 - distance).clamp(0, 1)


def blend(canvas: Tensor, colours: Tensor, inside: Tensor) -> Tensor:
    """`canvas` (N, 3, H, W) with a colour each (N, 3) laid over it as far as `inside` (N, H, W) says."""
    return canvas + inside[:, None] * (colours[:, :, None, None] - canvas)


def _rgb(names: Tensor, shades: Tensor) -> Tensor:
    """Colours of 0 to 255 (N, 3), each a little lighter or darker as its shade between -1 and 1 says."""
    anchors = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    return (anchors[names] + SHADE_RANGE * shades[:, None]).clamp(0, 255)


def _to_unit(canvas: Tensor) -> Tensor:
    return canvas / 127.5 - 1
