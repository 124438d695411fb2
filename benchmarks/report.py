"""Renders RESULTS.md from sections: the requirements first, then each benchmark's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.machine import Machine
from benchmarks.results import Cell, Requirement, Section, Table

HEAD = """# Measurements

Each figure is measured side by side with its baseline, in one run and on one machine: compare the ratios, since the
times depend on the machine. `scripts/bench` measures everything again and writes this file. `scripts/bench NAME …`
measures only the named sections and keeps the others. `scripts/bench --redraw` writes the tables and plots again from
`results.json` without measuring. A range goes from the smallest to the largest of the blocks or rounds; the figure
before it is their median.
"""
QUIET_SHARE = 0.05
PROSE_LENGTH = 24
NO_GPU = "not measured: no GPU on the machine of this run"


def render(sections: Iterable[Section], plots: Mapping[str, Sequence[str]] | None = None) -> str:
    """The whole file; `plots` has the plots of each section, as paths relative to the file."""
    sections = list(sections)
    parts = [HEAD, _requirements(sections)]
    parts += [render_section(section, (plots or {}).get(section.name, ())) for section in sections]
    parts.append(_gpu(sections))
    return "\n".join(parts)


def render_section(section: Section, plots: Sequence[str] = ()) -> str:
    """One benchmark: its method and machine, its tables and plots."""
    lines = [f"## {section.title} (`{section.name}`)", "", section.method, ""]
    if section.quick:
        lines += ["**A quick run with few samples: it only shows that the benchmark works.**", ""]
    for table in section.findings.tables:
        lines += [*_table(table), ""]
    lines += [line for plot in plots for line in (f"![{section.title}]({plot})", "")]
    for requirement in section.findings.requirements:
        lines += [f"Required: {_sentence(requirement)}", ""]
    lines += [line for note in section.findings.notes for line in (note, "")]
    lines += [f"Measured in {section.took_s:.0f} s on {_machine(section.machine)}. {_quietness(section)}".rstrip(), ""]
    return "\n".join(lines)


def _requirements(sections: list[Section]) -> str:
    rows: list[list[Cell]] = [
        [
            requirement.what,
            _with_range(requirement),
            f"{requirement.side} {_cell(requirement.bound)}{requirement.unit}",
            "**met**" if requirement.met else "**not met**",
        ]
        for section in sections
        for requirement in section.findings.requirements
    ]
    return "\n".join([*_table(Table("Required and measured", ["what", "measured", "required", ""], rows)), ""])


def _sentence(requirement: Requirement) -> str:
    verdict = "met" if requirement.met else "not met"
    bound = f"{requirement.side} {_cell(requirement.bound)}{requirement.unit}"
    return f"{requirement.what} {bound}; measured {_with_range(requirement)}: **{verdict}**."


def _with_range(requirement: Requirement) -> str:
    figure = f"{_cell(requirement.measured)}{requirement.unit}"
    if requirement.low is None or requirement.high is None:
        return figure
    return f"{figure} ({_cell(requirement.low)} to {_cell(requirement.high)})"


def _gpu(sections: list[Section]) -> str:
    on_gpu = any(section.machine.gpu != "none" for section in sections)
    speed = "the sections above that name a GPU" if on_gpu else NO_GPU
    return "\n".join(["## Tokens on a GPU", "", f"Tokens per second on CUDA against raw vLLM: {speed}.", ""])


def _machine(machine: Machine) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    gpu = "no GPU" if machine.gpu == "none" else machine.gpu
    return (
        f"{machine.date}: {machine.cpu}, {machine.n_cpus} CPUs, {machine.memory_gib:.0f} GiB, {gpu}; Python "
        f"{machine.python}, {packages}"
    )


def _quietness(section: Section) -> str:
    if section.took_s < 1:  # the system counts CPU time in hundredths of a second
        return ""
    sentence = f"Other processes used {section.others_share:.0%} of the CPUs during the run."
    return sentence if section.others_share <= QUIET_SHARE else f"**{sentence} The times are therefore unreliable.**"


def _table(table: Table) -> list[str]:
    lines = [f"**{table.title}**", ""]
    lines.append(f"| {' | '.join(table.columns)} |")
    alignments = ["---" if _is_prose(table, column) else "---:" for column in range(len(table.columns))]
    lines.append(f"|{'|'.join(alignments)}|")
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in table.rows]
    return lines


def _is_prose(table: Table, column: int) -> bool:
    """Whether a column is text: the first, and those with sentences."""
    cells = [row[column] for row in table.rows]
    return column == 0 or any(isinstance(cell, str) and len(cell) > PROSE_LENGTH for cell in cells)


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
