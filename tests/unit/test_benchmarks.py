"""The report of the benchmarks: what it is made of, and that its images can be drawn from that alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import plots, report, results
from benchmarks.plots import Kind, Plot
from benchmarks.plotted import PLOTS
from benchmarks.results import Cell, Findings, Section, Table

FOLDER = Path(__file__).parents[2] / "benchmarks"
LARGEST_BYTES = 64 << 10


def section(columns: list[str], rows: list[list[Cell]]) -> Section:
    """The section of the first benchmark with another table."""
    known = next(iter(results.load(FOLDER / "results.json").values()))
    table = Table("a table", columns, rows)
    return Section("some", "Some", "", known.machine, False, 1.0, 0.0, Findings([table], []))


@pytest.mark.parametrize(
    "plot",
    [
        Plot(Kind.BARS, "way", ("ms",), "milliseconds", ratio="against a"),
        Plot(Kind.BARS, "way", ("ms",), "milliseconds", logarithmic=True),
        Plot(Kind.LINES, "way", ("ms", "others"), "milliseconds", ratio="ms"),
        Plot(Kind.LINES, "others", ("ms",), "milliseconds"),
    ],
)
def test_table_becomes_a_small_image(plot: Plot, tmp_path: Path) -> None:
    rows: list[list[Cell]] = [["vllm_server.py", 10.5, 3, "1.00×"], ["… more", 2_000, 5, None], ["none", None, 1, "–"]]
    made = section(["way", "ms", "others", "against a"], rows)
    (name,) = plots.draw_all(made, [plot], tmp_path)
    with Image.open(tmp_path / name) as image:
        assert image.width == plots.WIDTH
        assert len(image.getcolors() or []) > 2
    assert (tmp_path / name).stat().st_size < LARGEST_BYTES
    assert f"(plots/{name})" in report.render([made], {"some": [f"plots/{name}"]})


def test_nothing_is_drawn_of_what_was_not_measured(tmp_path: Path) -> None:
    made = section(["way", "ms"], [["a", None], ["b", "not measured"], ["c", 1.0]])
    assert plots.draw_all(made, [Plot(Kind.BARS, "way", ("ms",), "")], tmp_path) == []
    assert plots.draw_all(made, [Plot(Kind.BARS, "way", ("no such column",), "")], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_images_of_the_report_are_there_and_small() -> None:
    shown = re.findall(r"\]\((plots/[\w-]+\.png)\)", (FOLDER / "RESULTS.md").read_text(encoding="utf-8"))
    assert shown
    for name in shown:
        assert (FOLDER / name).stat().st_size < LARGEST_BYTES
    assert sorted(shown) == sorted(f"plots/{path.name}" for path in (FOLDER / "plots").iterdir())


def test_columns_that_are_drawn_exist() -> None:
    for name, found in results.load(FOLDER / "results.json").items():
        columns = {column for table in found.findings.tables for column in table.columns}
        for plot in PLOTS.get(name, ()):
            assert {plot.names, *plot.values} <= columns, name
            assert plot.ratio is None or plot.ratio in columns, name
