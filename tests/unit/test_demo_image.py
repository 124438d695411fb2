"""The image of the demo: whole, and drawn by a program that breaks lines where they are too long."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MARGIN = 12


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_image", ROOT / "scripts" / "demo_image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_cut_off() -> None:
    with Image.open(ROOT / "examples" / "demo.png") as shown:
        image = shown.convert("RGB")
    width, height = image.size
    for edge in (
        image.crop((0, 0, MARGIN, height)),
        image.crop((width - MARGIN, 0, width, height)),
        image.crop((0, height - MARGIN, width, height)),
    ):
        assert len(edge.getcolors() or []) == 1


def test_long_lines_are_broken_at_spaces(drawing: ModuleType) -> None:
    words = "word " * 60
    lines = ["".join(cell.text for cell in line) for line in drawing._wrapped(drawing._cells(words.strip()))]
    assert " ".join(lines) == words.strip()
    assert max(map(len, lines)) <= drawing.MAX_COLUMNS
    assert [len(line) for line in drawing._wrapped(drawing._cells("x" * 250))] == [104, 104, 42]


def test_colours_are_taken_from_the_terminal(drawing: ModuleType) -> None:
    cells = drawing._cells("a\x1b[38;2;1;2;3m\x1b[48;2;4;5;6m▀\x1b[0mb")
    assert cells == [("a", None), ("▀", ((1, 2, 3), (4, 5, 6))), ("b", None)]
