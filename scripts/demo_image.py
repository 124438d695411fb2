"""Runs the demo in a pseudo-terminal and draws its output as examples/demo.png.

.venv/bin/python scripts/demo_image.py

The size of the image depends on the lines. It uses the font DejaVu Sans Mono, which Pillow finds among the system's
fonts.
"""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "examples" / "demo.png"
FONT, FONT_SIZE = "DejaVuSansMono.ttf", 16
CELL_WIDTH, CELL_HEIGHT = 10, 21
MARGIN = 20
BAR_HEIGHT = 37
MAX_COLUMNS = 104
INK, PAPER, ASKED = (220, 223, 228), (27, 28, 33), (120, 180, 245)
BUTTONS = ((255, 95, 86), (255, 189, 46), (39, 201, 63))
COLOURS = 256
_CODE = re.compile(r"\x1b\[([0-9;]*)m")
_NO_COLOUR = ((0, 0, 0), (0, 0, 0))

Colour = tuple[int, int, int]


class Cell(NamedTuple):
    """One character of a line, and its colours if they are not the default."""

    text: str
    colours: tuple[Colour, Colour] | None


def main() -> None:
    """Runs the demo and draws its output."""
    output = _run([sys.executable, str(ROOT / "examples" / "demo.py"), *sys.argv[1:]])
    lines = [_cells("$ scripts/demo")]
    for line in output.replace("\r\n", "\n").rstrip().split("\n"):
        lines += _wrapped(_cells(line.rpartition("\r")[2]))
    draw(lines).quantize(COLOURS).save(IMAGE, optimize=True)
    print(f"drawn: {IMAGE}")


def draw(lines: list[list[Cell]]) -> Image.Image:
    """Draws the lines as a terminal window."""
    width = max(map(len, lines)) * CELL_WIDTH + 2 * MARGIN
    image = Image.new("RGB", (width, BAR_HEIGHT + len(lines) * CELL_HEIGHT + MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype(FONT, FONT_SIZE)
    for number, colour in enumerate(BUTTONS):
        x = 16 + 22 * number
        pen.ellipse((x, 12, x + 12, 24), fill=colour)
    for row, cells in enumerate(lines):
        top = BAR_HEIGHT + row * CELL_HEIGHT
        ink = ASKED if "".join(cell.text for cell in cells[:6]) == "  you " else INK
        for column, (text, colours) in enumerate(cells):
            left = MARGIN + column * CELL_WIDTH
            if colours is not None:
                middle, bottom = top + CELL_HEIGHT // 2, top + CELL_HEIGHT - 1
                pen.rectangle((left, top, left + CELL_WIDTH - 1, middle - 1), fill=colours[0])
                pen.rectangle((left, middle, left + CELL_WIDTH - 1, bottom), fill=colours[1])
            else:
                pen.text((left, top + 1), text, fill=ink, font=font)
    return image


def _run(command: list[str]) -> str:
    """The terminal output of a program; raises `SystemExit` when it fails."""
    data = bytearray()

    def read(descriptor: int) -> bytes:
        piece = os.read(descriptor, 65_536)
        data.extend(piece)
        return piece

    status = os.waitstatus_to_exitcode(pty.spawn(command, read))
    if status:
        raise SystemExit(f"the demo failed with status {status}")
    return data.decode()


def _cells(line: str) -> list[Cell]:
    """The characters of a line with 24-bit colours, the only ones that the demo uses."""
    cells: list[Cell] = []
    colours = None
    position = 0
    for code in [*_CODE.finditer(line), None]:
        cells += [Cell(char, colours) for char in line[position : code.start() if code else None]]
        if code is None:
            break
        position = code.end()
        numbers = [int(number or 0) for number in code[1].split(";")]
        if numbers[:2] in ([38, 2], [48, 2]):
            upper, lower = colours or _NO_COLOUR
            found: Colour = (numbers[2], numbers[3], numbers[4])
            colours = (found, lower) if numbers[0] == 38 else (upper, found)
        else:
            colours = None
    return cells


def _wrapped(cells: list[Cell]) -> list[list[Cell]]:
    """Wraps a line at spaces to at most `MAX_COLUMNS`."""
    lines = []
    while len(cells) > MAX_COLUMNS:
        spaces = [number for number in range(1, MAX_COLUMNS + 1) if cells[number].text == " "]
        at = spaces[-1] if spaces else MAX_COLUMNS
        lines.append(cells[:at])
        cells = cells[at + 1 :] if spaces else cells[at:]
    return [*lines, cells]


if __name__ == "__main__":
    main()
