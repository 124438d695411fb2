"""The icon: three shapes, which the demo model recognises, in a speech bubble. As SVG, PNG files and data URIs.

python -m release.icons    writes the files and settings/icons.py

All come from the same shapes, on a canvas of 48 by 48 units.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
SVG = ROOT / "release" / "icon.svg"
PNG_48 = ROOT / "release" / "icon-48.png"
PNG_512 = ROOT / "plugin" / ".claude-plugin" / "icon.png"
"""Where the plugin directory looks for it; the bundle has it too."""
MODULE = ROOT / "settings" / "icons.py"
UNITS = 48
OVERSAMPLING = 8
N_COLOURS = 32
Point = tuple[float, float]

NIGHT, PAPER, RED, GREEN, BLUE = "#1b2440", "#f5f7ff", "#e5484d", "#30a46c", "#3e63dd"
RECTANGLES: list[tuple[float, float, float, float, float, str]] = [
    (0, 0, 48, 48, 11, NIGHT),
    (6, 9, 42, 34, 6, PAPER),
    (19.5, 17, 28.5, 26, 0, GREEN),
]
"""Left, top, right, bottom, radius of the corners, colour."""
CIRCLES: list[tuple[float, float, float, str]] = [(13, 21.5, 4.5, RED)]
"""Centre and radius."""
POLYGONS: list[tuple[list[Point], str]] = [
    ([(14, 33), (24, 33), (14, 41)], PAPER),
    ([(35, 16.5), (40, 26), (30, 26)], BLUE),
]


def svg() -> str:
    """The icon as SVG."""
    parts = [
        f'<rect x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{y1 - y0:g}"'
        + (f' rx="{radius:g}"' if radius else "")
        + f' fill="{colour}"/>'
        for x0, y0, x1, y1, radius, colour in RECTANGLES
    ]
    parts += [f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{colour}"/>' for x, y, radius, colour in CIRCLES]
    for points, colour in POLYGONS:
        joined = " ".join(f"{x:g},{y:g}" for x, y in points)
        parts.append(f'<polygon points="{joined}" fill="{colour}"/>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {UNITS} {UNITS}">'
    return head + "".join(parts) + "</svg>"


def image(size: int) -> Image.Image:
    """The icon in `size` by `size` pixels, with smooth edges."""
    scale = size * OVERSAMPLING / UNITS
    drawn = Image.new("RGBA", (size * OVERSAMPLING,) * 2, (0, 0, 0, 0))
    draw = ImageDraw.Draw(drawn)
    for x0, y0, x1, y1, radius, colour in RECTANGLES:
        box = (x0 * scale, y0 * scale, x1 * scale - 1, y1 * scale - 1)
        draw.rounded_rectangle(box, radius * scale, fill=colour)
    for x, y, radius, colour in CIRCLES:
        draw.ellipse(((x - radius) * scale, (y - radius) * scale, (x + radius) * scale, (y + radius) * scale), colour)
    for points, colour in POLYGONS:
        draw.polygon([(x * scale, y * scale) for x, y in points], fill=colour)
    return drawn.resize((size, size), Image.Resampling.BOX)


def png(size: int) -> bytes:
    """The icon as a PNG file with few colours."""
    file = io.BytesIO()
    image(size).quantize(N_COLOURS, Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    return file.getvalue()


def module(vector: bytes, bitmap: bytes) -> str:
    """The source of settings/icons.py; the PNG comes first, since not every client shows SVG."""
    return f'''"""The server's icon as data URIs, for `initialize`; `python -m release.icons` writes this file."""

from typing import Any

ICONS: list[dict[str, Any]] = [
    {{
        "src": "data:image/png;base64,"
{_literal(bitmap)},
        "mimeType": "image/png",
        "sizes": ["48x48"],
    }},
    {{
        "src": "data:image/svg+xml;base64,"
{_literal(vector)},
        "mimeType": "image/svg+xml",
        "sizes": ["any"],
    }},
]
'''


def _literal(data: bytes, width: int = 104) -> str:
    text = base64.b64encode(data).decode()
    return "\n".join(f'        "{text[start : start + width]}"' for start in range(0, len(text), width))


def main() -> None:
    """Writes all files."""
    SVG.write_text(svg() + "\n", encoding="utf-8")
    PNG_48.write_bytes(png(48))
    PNG_512.parent.mkdir(parents=True, exist_ok=True)
    PNG_512.write_bytes(png(512))
    MODULE.write_text(module(svg().encode(), PNG_48.read_bytes()), encoding="utf-8")


if __name__ == "__main__":
    main()
