"""What the demos show in a terminal: a picture in coloured half blocks, and how long something took."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

PREVIEW_COLUMNS = 24
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Those that the server takes."""


def preview(path: Path) -> str:
    """The picture in coloured half blocks where the terminal has colours, else its name."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return f"  {path}"
    with Image.open(path) as picture:
        rows = max(2, round(PREVIEW_COLUMNS * picture.height / picture.width) // 2 * 2)
        small = picture.convert("RGB").resize((PREVIEW_COLUMNS, rows))
    cells = [
        "".join(_half_blocks(small.getpixel((x, y)), small.getpixel((x, y + 1))) for x in range(PREVIEW_COLUMNS))
        for y in range(0, rows, 2)
    ]
    return "\n".join(f"  {row}\x1b[0m" for row in cells)


def why_no_picture(path: Path) -> str | None:
    """Why a file is no picture that the server reads; None where it may be one."""
    if not path.is_file():
        return f"there is no file {path}"
    try:
        with Image.open(path, formats=FORMATS):
            return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return f"{path} is no picture that can be read ({', '.join(FORMATS)})"


def ms_since(since_s: float) -> int:
    """Milliseconds that have passed since a moment of `time.monotonic()`."""
    return round((time.monotonic() - since_s) * 1000)


def _half_blocks(upper: Any, lower: Any) -> str:
    return "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m▀".format(*upper, *lower)
