"""The package `mcp-server-vllm`: its size, and the start of its command compared with the start of the clone.

The wheel is built from this repository and installed into an empty environment. Its command and the clone, with the
same environment's Python, take turns, one start each per round. The time is from just before the process is created to
the last byte of the response to `initialize`. Each was started once before, so that its `.pyc` files exist. The
downloads are those for this platform.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.contenders import ROOT, plain_environment
from benchmarks.pipe_server import INITIALIZE, PipeServer, request_line, result_of
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import ratio, spread
from settings import COMMAND
from tests.e2e.environments import new_environment
from tests.e2e.package import SDIST, WHEEL, build_both

TITLE = "Package"
REQUIRED = 1.1
MB = 1e6
SCRIPT, CLONE = COMMAND, "python vllm_server.py"
INITIALIZE_LINE = request_line("initialize", INITIALIZE, 1)


def measure(run: Run) -> Findings:
    """Builds and installs the package, weighs it, and starts it."""
    with tempfile.TemporaryDirectory(prefix="package-") as name:
        folder = Path(name)
        build_both(folder)
        python = new_environment(folder / "environment", str(folder / WHEEL))
        commands = {SCRIPT: [str(python.with_name(COMMAND))], CLONE: [str(python), str(ROOT / "vllm_server.py")]}
        first_ms = {way: _start_ms(command) for way, command in commands.items()}
        starts: dict[str, list[float]] = {way: [] for way in commands}
        rounds = run.pick(full=40, quick=2)
        for _ in range(rounds):
            for way, command in commands.items():
                starts[way].append(_start_ms(command))
        sizes = _sizes(folder, python)
    against = ratio(starts[SCRIPT], starts[CLONE])
    required = Requirement(
        f"start → `initialize` of {COMMAND} against the clone",
        against.median,
        Bound.AT_MOST,
        REQUIRED,
        low=against.low,
        high=against.high,
    )
    notes = [f"{rounds} rounds.", f"The first start of {COMMAND}, without `.pyc` files: {first_ms[SCRIPT]:.0f} ms."]
    return Findings([_table(starts), sizes], [required], notes)


def _start_ms(command: list[str]) -> float:
    with PipeServer(command, None, plain_environment()) as server:
        answer = server.ask(INITIALIZE_LINE)
        answered_s = time.perf_counter()
        result_of(answer)
        return 1000 * (answered_s - server.started_s)


def _table(starts: dict[str, list[float]]) -> Table:
    rows: list[list[Cell]] = []
    for way, times in starts.items():
        found = spread(times)
        against = ratio(times, starts[CLONE]).median
        rows.append([way, found.median, f"{found.low:.0f} to {found.high:.0f}", f"{against:.2f}×"])
    return Table("start-up", ["command", "start → `initialize` ms", "range ms", "against the clone"], rows)


def _sizes(folder: Path, python: Path) -> Table:
    downloads = folder / "downloads"
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--dest", downloads, folder / WHEEL],
        check=True,
        capture_output=True,
    )
    wheel, sdist = (folder / WHEEL).stat().st_size, (folder / SDIST).stat().st_size
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    rows: list[list[Cell]] = [
        ["wheel", wheel / MB],
        ["sdist", sdist / MB],
        ["downloads of the light install, with the wheel", _bytes_in(downloads) / MB],
        ["installed, without `.pyc` files", _bytes_in(packages) / MB],
    ]
    return Table("size", ["what", "MB"], rows)


def _bytes_in(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files)
