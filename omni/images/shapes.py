"""Image sizes: keeps an aspect ratio within the limits of a model."""

from __future__ import annotations

import math
import re

Size = tuple[int, int]
"""Width and height in pixels."""
COMMON = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")
"""The aspect ratios that publishers of image models list."""
MAX_RATIO = 16.0
_DISTORTION = 0.04
"""How much rounding may change a ratio; a smaller change is not visible."""
_MORE_STEPS = 8
_SIDE = r"\s*([0-9]{1,4}(?:\.[0-9]{1,6})?)\s*"
_RATIO = re.compile(rf"{_SIDE}(?:[:x/×：∶]{_SIDE})?", re.IGNORECASE)


def ratio_of(text: str) -> float | None:
    """The ratio in "16:9", "16x9", "1.85:1" or "1.85"; `None` for anything else, and for more than `MAX_RATIO`."""
    found = _RATIO.fullmatch(text)
    if not found or not float(found[1]) or not float(found[2] or 1):
        return None
    ratio = float(found[1]) / float(found[2] or 1)
    return ratio if 1 / MAX_RATIO <= ratio <= MAX_RATIO else None


def of_ratio(ratio: float, n_pixels: int, multiple: int) -> Size:
    """The size with that ratio and at most `n_pixels`, in multiples of `multiple`."""
    return following((round(1e6 * ratio), 1_000_000), multiple, n_pixels)


def following(size: Size, multiple: int, max_pixels: int) -> Size:
    """An image's size rounded to multiples, scaled down to `max_pixels`.

    A small image is enlarged where rounding would distort it.
    """
    ratio = size[0] / size[1]
    scale = min(1.0, math.sqrt(max_pixels / (size[0] * size[1])))
    n_short = max(1, round(min(size) * scale / multiple))
    best = None
    for steps in range(n_short, n_short + _MORE_STEPS):
        found = _with_short_side(steps, ratio, multiple)
        if found[0] * found[1] > max_pixels:
            break
        distortion = abs(math.log(found[0] / found[1] / ratio))
        if best is None or distortion < best[0]:
            best = (distortion, found)
        if distortion <= _DISTORTION:
            break
    if best is not None:
        return best[1]
    smaller = (_with_short_side(steps, ratio, multiple) for steps in range(n_short - 1, 0, -1))
    fitting = next((found for found in smaller if found[0] * found[1] <= max_pixels), None)
    if fitting is not None:
        return fitting
    longest = max(1, max_pixels // multiple // multiple) * multiple
    return (longest, multiple) if ratio > 1 else (multiple, longest)


def _with_short_side(steps: int, ratio: float, multiple: int) -> Size:
    """The size whose shorter side is `steps` multiples."""
    longer = max(steps, round(steps * max(ratio, 1 / ratio))) * multiple
    return (longer, steps * multiple) if ratio > 1 else (steps * multiple, longer)
