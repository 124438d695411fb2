"""How long the process takes to end, from a signal, the end of its input or its reader's leaving, to its last moment.

Each time is that of a server of its own, brought into a phase and then ended: with a call that imports vLLM, loads the
weights, generates or gives the model's memory back, or with nothing to do, before a load and after it. The end of input
is measured where no call is left to answer, since those are answered first. Clients kill a server 2 s after they asked
it to end. Busy: four processes that do nothing but count run beside it. "killed" counts the ends that needed the last
resort, a timer of the system or the engine's guard, because a library held Python's lock; their status is not 0.
"Left behind" counts processes of the server that are still there 1 s after its end.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from tests.e2e.server_process import LOAD_S, Json, ServerProcess

TITLE = "Exit times"
REQUIRED_S = 2.0
WAIT_S = 60.0
GONE_S = 1.0
N_BUSY = 4
COUNT = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10_000))"
"""Counts for as long as the benchmark is there."""
CHAT: Json = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
LONG_CHAT: Json = {"messages": [{"role": "user", "content": "Tell me more."}], "max_tokens": 900, "ignore_eos": True}

IDLE, IMPORTING, LOADING, LOADED = "idle", "importing vLLM", "loading weights", "loaded"
GENERATING, RELEASING, RELEASED = "generating", "releasing", "released"
SIGTERM, INPUT, READER = "SIGTERM", "end of input", "reader gone"
ENDS: dict[str, Callable[[ServerProcess], None]] = {
    SIGTERM: ServerProcess.signal,
    INPUT: ServerProcess.close_stdin,
    READER: ServerProcess.close_stdout,
}
CASES = (
    (IDLE, SIGTERM),
    (IMPORTING, SIGTERM),
    (LOADING, SIGTERM),
    (LOADED, SIGTERM),
    (GENERATING, SIGTERM),
    (RELEASING, SIGTERM),
    (RELEASED, SIGTERM),
    (IDLE, INPUT),
    (LOADED, INPUT),
    (RELEASED, INPUT),
    (LOADING, READER),
    (GENERATING, READER),
)
QUICK = ((IDLE, SIGTERM), (LOADED, SIGTERM), (LOADED, INPUT))


class Ends:
    """The ends of one phase in one way."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.n_killed = 0
        self.n_left_behind = 0

    def cells(self) -> list[Cell]:
        """The longest, the median, and what was not as it should be."""
        return [
            round(max(self.times_s), 2),
            round(statistics.median(self.times_s), 2),
            self.n_killed,
            self.n_left_behind,
        ]

    def add(self, model: str, phase: str, way: str) -> None:
        """Starts a server, brings it into the phase, and ends it."""
        with ServerProcess({"VLLM_MODEL_NAME": model, "GPU_IDLE_TIMEOUT": "0"}, read_stdout=way != READER) as server:
            _enter(server, phase, way)
            begin_s = time.monotonic()
            ENDS[way](server)
            status = server.process.wait(WAIT_S)
            self.times_s.append(time.monotonic() - begin_s)
            self.n_killed += status != 0
            self.n_left_behind += _outlived(server)


def measure(run: Run) -> Findings:
    """Ends servers in every phase, on a machine with nothing else to do and on a busy one."""
    n_ends = run.pick(full=20, quick=2)
    cases = QUICK if run.quick else CASES
    tables, requirements = [], []
    for name, busy in (("idle machine", contextlib.nullcontext()), ("busy machine", _busy())):
        with busy:
            found = {case: _ends(run.model, *case, n_ends) for case in cases}
        rows = [[phase, way, *ends.cells()] for (phase, way), ends in found.items()]
        columns = ["phase", "ended by", f"longest of {n_ends} s", "median s", "killed", "left behind"]
        tables.append(Table(name, columns, rows))
        longest_s = [max(ends.times_s) for ends in found.values()]
        what = f"Longest time to the end of the process, {name}"
        requirements.append(Requirement(what, max(longest_s), Bound.AT_MOST, REQUIRED_S, unit=" s"))
        n_left = sum(ends.n_left_behind for ends in found.values())
        requirements.append(Requirement(f"Processes left behind, {name}", n_left, Bound.AT_MOST, 0, unit=""))
        if name == "idle machine":
            n_killed = sum(ends.n_killed for ends in found.values())
            requirements.append(Requirement(f"Ends by the last resort, {name}", n_killed, Bound.AT_MOST, 0, unit=""))
    return Findings(tables, requirements)


def _ends(model: str, phase: str, way: str, n_ends: int) -> Ends:
    ends = Ends()
    for _ in range(n_ends):
        ends.add(model, phase, way)
    return ends


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Some processes that take whatever the processors have to give."""
    counting = [subprocess.Popen([sys.executable, "-I", "-S", "-c", COUNT]) for _ in range(N_BUSY)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def _enter(server: ServerProcess, phase: str, way: str) -> None:
    if way == READER:  # what it writes stays in the pipe, so that this end of it can be closed
        server.send_call("chat_completion", LONG_CHAT, meta={"progressToken": 1})
        server.wait_for_output(LOAD_S)
        if phase == GENERATING:
            _read_until(server, b'"progress":1')
        return
    server.initialize()
    if phase in (LOADED, RELEASED, RELEASING):
        server.result("chat_completion", CHAT)
        if phase == RELEASED:
            server.result("release_gpu")
        elif phase == RELEASING:
            server.send_call("release_gpu")
    elif phase != IDLE:
        server.send_call("chat_completion", LONG_CHAT, meta={"progressToken": 1})
        while not _is_in(phase, server.read_message(LOAD_S)["params"]):
            pass


def _is_in(phase: str, progress: Json) -> bool:
    return progress.get("message") == phase or (phase == GENERATING and progress["progress"] >= 1)


def _read_until(server: ServerProcess, mark: bytes) -> None:
    assert server.process.stdout is not None
    read = b""
    while mark not in read:
        read += server.process.stdout.read(1 << 16) or b""


def _outlived(server: ServerProcess) -> int:
    """How many of the server's processes are still there a moment after its end."""
    until_s = time.monotonic() + GONE_S
    while (n_left := len(server.marked())) and time.monotonic() < until_s:
        time.sleep(0.02)
    return n_left
