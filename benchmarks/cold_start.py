"""From the first call of a new process to its answer, which needs the model: this commit and an earlier one.

Each server is new, has the default settings but for those in its row, and takes its turn in every round. The time is
from the last byte of `chat_completion` (one token) to the last byte of its reply. An empty cache is a `VLLM_CACHE_ROOT`
without files, as in a new container; a kept one has what vLLM stored there during the same calls before. Files of the
libraries are in the system's cache. With `VLLM_PRELOAD=import` the call is sent when vLLM is imported. Until then a
`ping` is due every 5 ms, from `initialize` on; its time counts from the moment it is due, also when earlier ones are
late, so that every moment without an answer counts. The memory is that of the process just before the call.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from benchmarks.contenders import ROOT, plain_environment
from benchmarks.pipe_server import PipeServer, request_line, result_of, tool_line
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import Spread, percentile, ratio, spread
from settings import DEMO_MODEL

TITLE = "Cold start"
EARLIER = "c891d9e~1"
"""The last commit whose first load had vLLM inspect the model's class in a child process."""
MAX_SHARE = 0.6
MAX_PING_MS = 50.0
PING_EVERY_S = 0.005
IMPORTED = b"vLLM was imported in the background"
"""The log line that ends the pings."""
PING = request_line("ping")
CHAT = tool_line(
    "chat_completion", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0}
)


class Row(msgspec.Struct, frozen=True):
    """One server: its tree, whether vLLM's cache is kept, and further settings."""

    name: str
    is_earlier: bool
    keeps_cache: bool
    settings: dict[str, str] = {}


class Start(msgspec.Struct, frozen=True):
    """One start: seconds from the call to its reply, MiB before the call, and milliseconds of each ping."""

    answer_s: float
    resident_mib: float
    pings_ms: list[float]


IMPORT = {"VLLM_PRELOAD": "import"}
ROWS = (
    Row("earlier commit, empty cache", True, False),
    Row("this commit, empty cache", False, False),
    Row("earlier commit, kept cache", True, True),
    Row("this commit, kept cache", False, True),
    Row("this commit, kept cache, VLLM_PRELOAD=import", False, True, IMPORT),
)


def measure(run: Run) -> Findings:
    """Starts every server once per round."""
    rounds = run.pick(full=3, quick=1)
    with tempfile.TemporaryDirectory(prefix="cold-start-") as name, _earlier_tree(run.before or EARLIER) as tree:
        trees = {True: tree, False: ROOT}
        starts: dict[str, list[Start]] = {row.name: [] for row in ROWS}
        for is_earlier, each in trees.items():  # writes the `.pyc` files, and fills the kept cache
            _start(each, Path(name) / f"kept-{is_earlier}", run.model, {})
        for number in range(rounds):
            for row in ROWS:
                cache = Path(name) / (f"kept-{row.is_earlier}" if row.keeps_cache else f"{row.is_earlier}-{number}")
                starts[row.name].append(_start(trees[row.is_earlier], cache, run.model, row.settings))
    return _findings(starts, rounds)


@contextlib.contextmanager
def _earlier_tree(commit: str) -> Iterator[Path]:
    """The files of a commit in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="earlier-") as name:
        tree = Path(name) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=False)


def _start(tree: Path, cache: Path, model: str, settings: Mapping[str, str]) -> Start:
    cache.mkdir(exist_ok=True)
    chosen = {} if model == DEMO_MODEL else {"VLLM_MODEL_NAME": model}
    environment = {**plain_environment(), **chosen, **settings, "VLLM_CACHE_ROOT": str(cache)}
    with PipeServer((sys.executable, str(tree / "vllm_server.py")), environment=environment) as server:
        server.initialize()
        pings_ms = _pings_ms(server) if settings else []
        resident_mib = _resident_mib(server)
        begin_s = time.perf_counter()
        reply = server.ask(CHAT)
        answer_s = time.perf_counter() - begin_s
        result_of(reply)
    return Start(answer_s, resident_mib, pings_ms)


def _pings_ms(server: PipeServer) -> list[float]:
    """Milliseconds from when each ping is due to its reply, until vLLM is imported."""
    times: list[float] = []
    due_s = time.perf_counter()
    while IMPORTED not in server.log_tail():
        time.sleep(max(0.0, due_s - time.perf_counter()))
        result_of(server.ask(PING))
        times.append(1000 * (time.perf_counter() - due_s))
        due_s += PING_EVERY_S
    return times


def _resident_mib(server: PipeServer) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _findings(starts: dict[str, list[Start]], rounds: int) -> Findings:
    answers = {name: [start.answer_s for start in found] for name, found in starts.items()}
    rows: list[list[Cell]] = []
    against: dict[str, Spread] = {}
    for row in ROWS:
        anchor = next(other.name for other in ROWS if other.is_earlier and other.keeps_cache == row.keeps_cache)
        against[row.name] = ratio(answers[row.name], answers[anchor])
        found = spread(answers[row.name])
        rows.append(
            [
                row.name,
                round(found.median, 2),
                f"{found.low:.1f} to {found.high:.1f}",
                f"{against[row.name].median:.2f}×",
                round(spread([start.resident_mib for start in starts[row.name]]).median),
            ]
        )
    columns = ["server", "call → answer s", "range s", "against the earlier commit", "memory before the call MiB"]
    pings_ms = [ping for start in starts[ROWS[-1].name] for ping in start.pings_ms]
    p99_ms = percentile(pings_ms, 0.99)
    pings: list[Cell] = [len(pings_ms), spread(pings_ms).median, p99_ms, max(pings_ms)]
    default, imported = against[ROWS[1].name], against[ROWS[-1].name]
    return Findings(
        [
            Table("first answer", columns, rows),
            Table("`ping` during the import", ["pings", "p50 ms", "p99 ms", "longest ms"], [pings]),
        ],
        [
            _share("default settings, empty cache", default),
            _share("`VLLM_PRELOAD=import`, kept cache", imported),
            Requirement("Cold start: p99 of `ping` during the import", p99_ms, Bound.AT_MOST, MAX_PING_MS, unit=" ms"),
        ],
        [f"{rounds} rounds."],
    )


def _share(what: str, found: Spread) -> Requirement:
    name = f"Cold start, {what}: time to the first answer over the earlier commit's"
    return Requirement(name, found.median, Bound.AT_MOST, MAX_SHARE, low=found.low, high=found.high)
