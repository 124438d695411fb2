"""Terminal output of the demos: previews of images, and elapsed times."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

PREVIEW_COLUMNS = 24
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The formats that the server accepts."""


def preview(path: Path) -> str:
    """The image as coloured half blocks, or its path if the output has no colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return f"  {path}"
    with Image.open(path) as image:
        rows = max(2, round(PREVIEW_COLUMNS * image.height / image.width) // 2 * 2)
        small = image.convert("RGB").resize((PREVIEW_COLUMNS, rows))
    cells = [
        "".join(_half_blocks(small.getpixel((x, y)), small.getpixel((x, y + 1))) for x in range(PREVIEW_COLUMNS))
        for y in range(0, rows, 2)
    ]
    return "\n".join(f"  {row}\x1b[0m" for row in cells)


def image_problem(path: Path) -> str | None:
    """Why the server cannot read a file as an image; `None` if it may be able to."""
    if not path.is_file():
        return f"there is no file {path}"
    try:
        with Image.open(path, formats=FORMATS):
            return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return f"{path} is not a supported image ({', '.join(FORMATS)})"


def ms_since(since_s: float) -> int:
    """Milliseconds since a value of `time.monotonic()`."""
    return round((time.monotonic() - since_s) * 1000)


def _half_blocks(upper: Any, lower: Any) -> str:
    return "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m▀".format(*upper, *lower)
