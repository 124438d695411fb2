"""From the start of a process to its first responses over real pipes.

The time is from just before the process is created to the last byte of the response to `initialize`, and to that of the
first `tools/list`. The servers take turns, one start each per round; each was started once before, so that its `.pyc`
files exist. Each SDK has an environment with nothing else in it. stderr goes to a file, and the SDKs log only errors.
"""

from __future__ import annotations

import time

import msgspec

from benchmarks.contenders import Contender, Kind, contenders
from benchmarks.pipe_server import INITIALIZE, Cpus, request_line, result_of, running_on
from benchmarks.placement import Placement, placements
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import ratio, spread

TITLE = "Start-up"
MIN_SDK_RATIO = 5.0
MAX_LIST_RATIO = 1.3
INITIALIZE_LINE = request_line("initialize", INITIALIZE, 1)
LIST_LINES = b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n' + request_line("tools/list", None, 2)


class Start(msgspec.Struct, frozen=True):
    """Milliseconds from the start of a process to two of its answers."""

    initialize_ms: float
    list_ms: float


def measure(run: Run) -> Findings:
    """Starts every contender `rounds` times on each placement."""
    found, notes = contenders()
    rounds = run.pick(full=25, quick=2)
    tables: list[Table] = []
    requirements: list[Requirement] = []
    for placement in placements():
        with running_on(placement.client):
            starts = _rounds(found, placement.server, rounds)
        tables.append(_table(found, starts, placement))
        requirements += _requirements(found, starts, placement)
    return Findings(tables, requirements, [*notes, f"{rounds} rounds."])


def _rounds(found: list[Contender], cpus: Cpus | None, rounds: int) -> dict[str, list[Start]]:
    starts: dict[str, list[Start]] = {contender.name: [] for contender in found}
    for contender in found:
        _start(contender, cpus)
    for _ in range(rounds):
        for contender in found:
            starts[contender.name].append(_start(contender, cpus))
    return starts


def _start(contender: Contender, cpus: Cpus | None) -> Start:
    with contender.start(cpus) as server:
        answer = server.ask(INITIALIZE_LINE)
        initialized_s = time.perf_counter()
        tools = server.ask(LIST_LINES)
        listed_s = time.perf_counter()
        result_of(answer)
        result_of(tools)
        return Start(1000 * (initialized_s - server.started_s), 1000 * (listed_s - server.started_s))


def _table(found: list[Contender], starts: dict[str, list[Start]], placement: Placement) -> Table:
    (ours,) = (starts[contender.name] for contender in found if contender.kind is Kind.OURS)
    rows: list[list[Cell]] = []
    for contender in found:
        theirs = starts[contender.name]
        initialize = spread([start.initialize_ms for start in theirs])
        against_ours = ratio([start.initialize_ms for start in theirs], [start.initialize_ms for start in ours])
        lists = spread([start.list_ms for start in theirs])
        rows.append(
            [
                contender.name,
                initialize.median,
                f"{initialize.low:.0f} to {initialize.high:.0f}",
                f"{against_ours.median:.2f}×",
                lists.median,
            ]
        )
    columns = ["server", "start → `initialize` ms", "range ms", "against vllm_server.py", "start → `tools/list` ms"]
    return Table(placement.name, columns, rows)


def _requirements(found: list[Contender], starts: dict[str, list[Start]], placement: Placement) -> list[Requirement]:
    (ours,) = (starts[contender.name] for contender in found if contender.kind is Kind.OURS)
    lists = ratio([start.list_ms for start in ours], [start.initialize_ms for start in ours])
    what = f"Start-up: time to `tools/list` against time to `initialize` ({placement.name})"
    list_time = Requirement(what, lists.median, Bound.AT_MOST, MAX_LIST_RATIO, low=lists.low, high=lists.high)
    ratios = [
        ratio([start.initialize_ms for start in starts[contender.name]], [start.initialize_ms for start in ours])
        for contender in found
        if contender.kind is Kind.SDK
    ]
    if not ratios:
        return [list_time]
    fastest = min(ratios, key=lambda ratio: ratio.median)
    what = f"Start-up: how many times sooner than the fastest SDK server ({placement.name})"
    sooner = Requirement(what, fastest.median, Bound.AT_LEAST, MIN_SDK_RATIO, low=fastest.low, high=fastest.high)
    return [sooner, list_time]
