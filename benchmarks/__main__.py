"""Runs the named benchmarks, or all, and writes RESULTS.md: `scripts/bench --help`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

from benchmarks import (
    batch,
    best_of,
    cancel,
    chat,
    cold_start,
    concurrent,
    cpu_speed,
    exits,
    exits_busy,
    faults,
    fuzz,
    generation,
    gpu,
    images,
    load,
    machine,
    memory,
    package,
    plots,
    report,
    results,
    round_trip,
    session_turns,
    soak,
    startup,
    switch,
)
from benchmarks.plotted import PLOTS
from benchmarks.results import Section
from benchmarks.run import Run
from settings import DEMO_MODEL

FOLDER = Path(__file__).resolve().parent
PLOT_FOLDER = "plots"
BENCHMARKS: dict[str, ModuleType] = {
    "startup": startup,
    "cold_start": cold_start,
    "package": package,
    "round_trip": round_trip,
    "chat": chat,
    "batch": batch,
    "cpu_speed": cpu_speed,
    "images": images,
    "generation": generation,
    "best_of": best_of,
    "cancel": cancel,
    "concurrent": concurrent,
    "load": load,
    "session_turns": session_turns,
    "memory": memory,
    "switch": switch,
    "fuzz": fuzz,
    "exits": exits,
    "exits_busy": exits_busy,
    "faults": faults,
    "soak": soak,
    "gpu": gpu,
}


def main() -> int:
    """Runs the benchmarks and prints each section; returns 1 when one failed."""
    options = _options()
    run = Run(model=options.model, quick=options.quick, minutes=options.minutes, before=options.before)
    folder: Path | None = options.output or (None if options.quick else FOLDER)
    if options.redraw:
        _write_report(results.load((folder or FOLDER) / "results.json"), folder or FOLDER)
        return 0
    failed = []
    for name in [name for name in BENCHMARKS if name in (options.names or BENCHMARKS)]:
        print(f"{name} …", file=sys.stderr)
        try:
            section = _measured(name, run)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        print(report.render_section(section))
        if folder is not None:
            _write(section, folder)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the server and its baselines, and writes benchmarks/RESULTS.md. The figures are reliable "
        "only on an otherwise idle machine.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure (default: all): {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--quick", action="store_true", help="few samples, to check the benchmarks; writes no file")
    parser.add_argument("--model", default=DEMO_MODEL, help="folder or Hugging Face name (default: the bundled model)")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the soak takes (default: 10)")
    parser.add_argument("--before", default="", metavar="COMMIT", help="the earlier commit that cold_start compares")
    parser.add_argument("--redraw", action="store_true", help="writes RESULTS.md and its plots again without measuring")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where RESULTS.md and results.json go")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return options


def _measured(name: str, run: Run) -> Section:
    module = BENCHMARKS[name]
    on, others = machine.describe(), machine.Others()
    started_s = time.monotonic()
    findings = module.measure(run)
    took_s = time.monotonic() - started_s
    method = " ".join((module.__doc__ or "").split())
    return Section(name, module.TITLE, method, on, run.quick, took_s, others.share(), findings)


def _write(section: Section, folder: Path) -> None:
    """Stores the section with those of earlier runs."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    known = {**results.load(path), section.name: section}
    sections = {name: known[name] for name in BENCHMARKS if name in known}
    results.save(path, sections)
    _write_report(sections, folder)


def _write_report(sections: dict[str, Section], folder: Path) -> None:
    """Writes RESULTS.md and its plots from the sections."""
    drawn = {
        name: [f"{PLOT_FOLDER}/{file}" for file in plots.draw_all(section, PLOTS.get(name, ()), folder / PLOT_FOLDER)]
        for name, section in sections.items()
    }
    (folder / "RESULTS.md").write_text(report.render(sections.values(), drawn), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
