"""Draws tables as images with Pillow from results.json, without measuring again."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
from PIL import Image, ImageDraw, ImageFont

from benchmarks.results import Cell, Section, Table

WIDTH = 900
MARGIN = 24
TITLE_SIZE, TEXT_SIZE = 20, 15
INK, FAINT, PAPER = "#1f2328", "#d0d7de", "#ffffff"
OURS, OTHERS = "#2563eb", "#94a3b8"
LINES = ("#2563eb", "#ea580c", "#16a34a", "#9333ea")
BAR, GAP = 22, 12
PLOT_HEIGHT = 260
N_TICKS = 5
COLOURS = 64
"""Colours per file: enough for anti-aliased text, at a fifth of the size."""
OTHER_NAMES = ("raw ", "bare ", "mcp ", "fastmcp ")
"""The beginnings of baseline rows; all other rows are this server's."""


class Kind(enum.StrEnum):
    """The kind of a plot."""

    BARS = "bars"
    LINES = "lines"


class Plot(msgspec.Struct, frozen=True):
    """Which columns of a table are drawn.

    Arguments: the column of the names (bars) or of the horizontal axis (lines); the columns of values; words for the
    axis of values, with its unit; for bars the column with the ratio against the anchor, which is written behind each,
    for lines the one of `values` that is the anchor, over whose sum the others' sums are written; which tables, by what
    their titles contain (all by default); whether the axis of values is logarithmic, for values that differ by orders
    of magnitude; whether it begins at zero.
    """

    kind: Kind
    names: str
    values: tuple[str, ...]
    axis: str
    ratio: str | None = None
    tables: str = ""
    logarithmic: bool = False
    from_zero: bool = True


def draw_all(section: Section, plots: Sequence[Plot], folder: Path) -> list[str]:
    """Draws a section's plots as PNGs into a folder; their names, in order. Tables without figures have no plot."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{section.name}-[0-9]*.png"):
        old.unlink()
    names: list[str] = []
    for plot in plots:
        for table in section.findings.tables:
            if plot.tables in table.title and (image := _drawn(plot, table, section.title)) is not None:
                name = f"{section.name}-{len(names) + 1}.png"
                image.quantize(COLOURS).save(folder / name, optimize=True)
                names.append(name)
    return names


def _drawn(plot: Plot, table: Table, title: str) -> Image.Image | None:
    if not {plot.names, *plot.values} <= set(table.columns):
        return None
    rows = [row for row in table.rows if all(isinstance(_cell(table, row, name), int | float) for name in plot.values)]
    if len(rows) < 2:
        return None
    heading = f"{title}: {table.title}"
    return _bars(plot, table, rows, heading) if plot.kind is Kind.BARS else _lines(plot, table, rows, heading)


def _cell(table: Table, row: list[Cell], column: str) -> Cell:
    return row[table.columns.index(column)]


def _number(table: Table, row: list[Cell], column: str) -> float:
    value = _cell(table, row, column)
    assert isinstance(value, int | float)
    return float(value)


# Bars


def _bars(plot: Plot, table: Table, rows: list[list[Cell]], heading: str) -> Image.Image:
    (column,) = plot.values
    labels = [_plain(str(_cell(table, row, plot.names))) for row in rows]
    values = [_number(table, row, column) for row in rows]
    behind = [_figure(value) for value in values]
    if plot.ratio is not None and plot.ratio in table.columns:
        ratios = [_plain(str(_cell(table, row, plot.ratio) or "")) for row in rows]
        behind = [f"{text}   {ratio}" for text, ratio in zip(behind, ratios, strict=True)]
    left = MARGIN + max(_width(label) for label in labels) + GAP
    right = WIDTH - MARGIN - max(_width(text) for text in behind) - GAP
    top = MARGIN + TITLE_SIZE + 2 * GAP
    bottom = top + len(rows) * (BAR + GAP)
    is_ours = [_is_ours(labels, number) for number in range(len(labels))]
    legend = ["blue: this server" + ("" if all(is_ours) else "; grey: what it is compared with")]
    if plot.ratio is not None:
        legend.append(f"behind each bar: its value, and {_plain(plot.ratio)}")
    height = bottom + (3 + len(legend)) * (TEXT_SIZE + 6) + MARGIN
    image, pen = _paper(height, heading)
    scale = _Scale(values, left, right, plot.logarithmic)
    for tick in scale.ticks():
        x = scale.at(tick)
        pen.line((x, top - GAP / 2, x, bottom), fill=FAINT)
        _text(pen, (x, bottom + 4), _figure(tick), anchor="ma")
    for number, (label, value, text) in enumerate(zip(labels, values, behind, strict=True)):
        y = top + number * (BAR + GAP)
        pen.rectangle((left, y, max(scale.at(value), left + 1), y + BAR), fill=OURS if is_ours[number] else OTHERS)
        _text(pen, (left - GAP, y + BAR / 2), label, anchor="rm")
        _text(pen, (scale.at(value) + 6, y + BAR / 2), text, anchor="lm")
    pen.line((left, top - GAP / 2, left, bottom), fill=INK)
    y = bottom + TEXT_SIZE + 12
    for line in (plot.axis + (", logarithmic scale" if plot.logarithmic else ""), *legend):
        _text(pen, ((left + right) / 2, y), line, anchor="ma")
        y += TEXT_SIZE + 6
    return image


def _is_ours(labels: list[str], number: int) -> bool:
    """Whether a row is this server's; one that begins with dots goes on with the row before it."""
    while labels[number].startswith("...") and number > 0:
        number -= 1
    return not labels[number].startswith(OTHER_NAMES)


# Lines


def _lines(plot: Plot, table: Table, rows: list[list[Cell]], heading: str) -> Image.Image:
    steps = [_cell(table, row, plot.names) for row in rows]
    numeric = all(isinstance(step, int | float) for step in steps)
    places = [float(step) if numeric and isinstance(step, int | float) else float(i) for i, step in enumerate(steps)]
    values = {column: [_number(table, row, column) for row in rows] for column in plot.values}
    everything = [value for column in values.values() for value in column]
    top = MARGIN + TITLE_SIZE + 4 * GAP
    bottom = top + PLOT_HEIGHT
    left, right = MARGIN + 90, WIDTH - MARGIN - 20
    image, pen = _paper(bottom + 3 * (TEXT_SIZE + 8) + MARGIN, heading)
    scale = _Scale(everything, bottom, top, plot.logarithmic, from_zero=plot.from_zero)
    across = _Scale(places, left, right, False, from_zero=False, tight=True)
    for tick in scale.ticks():
        pen.line((left, scale.at(tick), right, scale.at(tick)), fill=FAINT)
        _text(pen, (left - 8, scale.at(tick)), _figure(tick), anchor="rm")
    for place in across.ticks() if numeric else sorted({places[0], places[len(places) // 2], places[-1]}):
        label = _figure(place) if numeric else _plain(str(steps[int(place)]))
        anchor = "ra" if not numeric and place == places[-1] else "ma"
        pen.line((across.at(place), bottom, across.at(place), bottom + 5), fill=INK)
        _text(pen, (across.at(place), bottom + 8), label, anchor=anchor)
    pen.line((left, top, left, bottom, right, bottom), fill=INK)
    for colour, figures in zip(LINES, values.values(), strict=False):
        points = [(across.at(place), scale.at(value)) for place, value in zip(places, figures, strict=True)]
        pen.line(points, fill=colour, width=3, joint="curve")
        for x, y in points:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
    _text(pen, ((left + right) / 2, bottom + TEXT_SIZE + 14), plot.names, anchor="ma")
    _text(pen, (MARGIN, top - GAP), plot.axis, anchor="lb")
    x = left
    for colour, (column, figures) in zip(LINES, values.items(), strict=False):
        y = bottom + 2 * (TEXT_SIZE + 8) + 8
        label = _plain(column)
        if plot.ratio in values:
            label = f"{label}: {sum(figures) / sum(values[plot.ratio]):.2f}x"
        pen.rectangle((x, y, x + 14, y + 14), fill=colour)
        _text(pen, (x + 20, y + 7), label, anchor="lm")
        x += 20 + _width(label) + 2 * MARGIN
    return image


# Scales and letters


class _Scale:
    """From values to pixels: linear or logarithmic, with round ticks."""

    def __init__(
        self,
        values: Sequence[float],
        begin: float,
        end: float,
        logarithmic: bool,
        *,
        from_zero: bool = True,
        tight: bool = False,
    ) -> None:
        self._begin, self._end = begin, end
        self._logarithmic = logarithmic and min(values) > 0
        low, high = min(values), max(values)
        if self._logarithmic:
            self._low, self._high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
            return
        low = min(0.0, low) if from_zero else low
        self._step = _round_step((high - low) or abs(high) or 1.0)
        self._low = low if tight else math.floor(low / self._step) * self._step
        self._high = high if tight else math.ceil(high / self._step) * self._step
        if self._high <= self._low:
            self._high = self._low + self._step

    def at(self, value: float) -> float:
        """Where a value is."""
        if self._logarithmic:
            share = math.log(value / self._low) / math.log(self._high / self._low)
        else:
            share = (value - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Round values along it."""
        if self._logarithmic:
            return [10.0**power for power in range(round(math.log10(self._low)), round(math.log10(self._high)) + 1)]
        first = math.ceil(self._low / self._step)
        return [number * self._step for number in range(first, math.floor(self._high / self._step + 1e-9) + 1)]


def _round_step(length: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that cuts a length into about `N_TICKS`."""
    power = 10.0 ** math.floor(math.log10(length / N_TICKS))
    return next(step * power for step in (1, 2, 5, 10) if step * power * N_TICKS >= length)


def _paper(height: float, heading: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (WIDTH, round(height)), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN - 6), _plain(heading), fill=INK, font=_font(TITLE_SIZE))
    return image, pen


def _text(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str) -> None:
    pen.text(place, text, fill=INK, font=_font(TEXT_SIZE), anchor=anchor)


def _width(text: str) -> float:
    return _font(TEXT_SIZE).getlength(text)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _plain(text: str) -> str:
    """The text without Markdown, and without what Pillow's own font lacks."""
    return text.replace("`", "").replace("×", "x").replace("→", "to").replace("…", "...")


def _figure(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
