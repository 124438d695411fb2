"""How long the process takes to exit after a signal or the end of its input, on an otherwise idle machine.

Each time is from a separate server, which is brought into a phase and then stopped: idle before or after a load, or
with a call that imports vLLM, loads the weights or generates. The end of input is measured only without pending calls,
because these are answered first. A few servers are loaded side by side, and stopped one after another when all of them
are idle. Clients kill a server 2 s after they ask it to exit. "Status not 0" counts exits that needed the last resort,
a system timer or the engine's guard, because a library held the GIL. "Left behind" counts processes of the server that
still exist 1 s after its exit.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from tests.e2e.server_process import LOAD_S, Json, ServerProcess

TITLE = "Exit times"
REQUIRED_S = 2.0
WAIT_S = 60.0
GONE_S = 1.0
N_SIDE_BY_SIDE = 3
"""How many servers are started at a time; this keeps two processors busy, and each takes a gigabyte."""
CHAT: Json = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
LONG_CHAT: Json = {"messages": [{"role": "user", "content": "Tell me more."}], "max_tokens": 900, "ignore_eos": True}

IDLE, IMPORTING, LOADING = "idle", "importing vLLM", "loading weights"
LOADED, GENERATING = "loaded", "generating"
SIGTERM, INPUT = "SIGTERM", "end of input"
ENDS: dict[str, Callable[[ServerProcess], None]] = {SIGTERM: ServerProcess.signal, INPUT: ServerProcess.close_stdin}
CASES = (
    (IDLE, SIGTERM),
    (IMPORTING, SIGTERM),
    (LOADING, SIGTERM),
    (LOADED, SIGTERM),
    (LOADED, INPUT),
    (GENERATING, SIGTERM),
)
QUICK = ((IDLE, SIGTERM), (LOADED, INPUT))

Beside = Callable[[], AbstractContextManager[None]]


class Ends:
    """The ends of one phase in one way."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.n_bad_statuses = 0
        self.n_left_behind = 0

    def cells(self) -> list[Cell]:
        """The longest and the median time, and what went wrong."""
        longest_s, median_s = max(self.times_s), statistics.median(self.times_s)
        return [round(longest_s, 2), round(median_s, 2), self.n_bad_statuses, self.n_left_behind]

    def add(self, server: ServerProcess, phase: str, way: str, beside: Beside) -> None:
        """Brings a ready server into the phase, and stops it."""
        if phase not in (IDLE, LOADED):
            _enter(server, phase)
        with beside():
            begin_s = time.monotonic()
            ENDS[way](server)
            status = server.process.wait(WAIT_S)
            self.times_s.append(time.monotonic() - begin_s)
        self.n_bad_statuses += status != 0
        self.n_left_behind += _outlived(server)


def measure(run: Run) -> Findings:
    """Stops servers in every phase, on an idle machine."""
    ends = ends_by_case(run, contextlib.nullcontext)
    findings = as_findings(ends, "idle machine")
    n_bad = sum(found.n_bad_statuses for found in ends.values())
    last_resort = Requirement("Ends with another status than 0, idle machine", n_bad, Bound.AT_MOST, 0, unit="")
    return Findings(findings.tables, [*findings.requirements, last_resort])


def ends_by_case(run: Run, beside: Beside) -> dict[tuple[str, str], Ends]:
    """Stops servers in every phase, within the context that `beside` returns."""
    n_ends = run.pick(full=20, quick=2)
    found = {case: Ends() for case in (QUICK if run.quick else CASES)}
    for (phase, way), ends in found.items():
        for n_before in range(0, n_ends, N_SIDE_BY_SIDE):
            n_servers = min(N_SIDE_BY_SIDE, n_ends - n_before)
            with _ready(run.model, n_servers, is_loaded=phase in (LOADED, GENERATING)) as servers:
                for server in servers:
                    ends.add(server, phase, way, beside)
    return found


def as_findings(found: dict[tuple[str, str], Ends], name: str) -> Findings:
    """The table, and what holds on any machine."""
    n_ends = len(next(iter(found.values())).times_s)
    columns = ["phase", "ended by", f"longest of {n_ends} s", "median s", "status not 0", "left behind"]
    table = Table(name, columns, [[phase, way, *ends.cells()] for (phase, way), ends in found.items()])
    longest_s = max(max(ends.times_s) for ends in found.values())
    n_left = sum(ends.n_left_behind for ends in found.values())
    what = f"Longest time to the end of the process, {name}"
    return Findings(
        [table],
        [
            Requirement(what, longest_s, Bound.AT_MOST, REQUIRED_S, unit=" s"),
            Requirement(f"Processes left behind, {name}", n_left, Bound.AT_MOST, 0, unit=""),
        ],
    )


@contextlib.contextmanager
def _ready(model: str, n_servers: int, *, is_loaded: bool) -> Iterator[list[ServerProcess]]:
    """Idle servers, with or without their model."""

    def prepare(server: ServerProcess) -> None:
        server.initialize()
        if is_loaded:
            server.result("chat_completion", CHAT)

    environment = {"VLLM_MODEL_NAME": model, "GPU_IDLE_TIMEOUT": "0"}
    with contextlib.ExitStack() as started, ThreadPoolExecutor(n_servers) as threads:
        servers = [started.enter_context(ServerProcess(environment)) for _ in range(n_servers)]
        list(threads.map(prepare, servers))
        yield servers


def _enter(server: ServerProcess, phase: str) -> None:
    server.send_call("chat_completion", LONG_CHAT, meta={"progressToken": 1})
    while not _is_in(phase, server.read_message(LOAD_S)["params"]):
        pass


def _is_in(phase: str, progress: Json) -> bool:
    return progress.get("message") == phase or (phase == GENERATING and progress["progress"] >= 1)


def _outlived(server: ServerProcess) -> int:
    """How many processes of the server still exist a moment after its exit."""
    until_s = time.monotonic() + GONE_S
    while (n_left := len(server.marked())) and time.monotonic() < until_s:
        time.sleep(0.02)
    return n_left
