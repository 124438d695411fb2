"""A call of a tool without an engine: `model_info`, which loads nothing, against tools that echo five letters.

All servers are started and warmed up first, then take turns in blocks of calls. One after another: the next call is
sent when the reply to the last one has arrived; p50 and p99 are medians over the blocks. In flight: this many calls are
pending at any time, which measures calls per second. The reply of `model_info` is larger than an echo (about 1.5 kB).
"""

from __future__ import annotations

import contextlib
import time

import msgspec

from benchmarks.contenders import Contender, Kind, contenders
from benchmarks.pipe_server import PipeServer, result_of, running_on, tool_line
from benchmarks.placement import Placement, placements
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import Spread, percentile, ratio, spread

TITLE = "Round trip"
REQUIRED = 4.0
IN_FLIGHT = 16


class Block(msgspec.Struct, frozen=True):
    """One block of calls of one server."""

    p50_us: float
    p99_us: float
    calls_per_s: float
    in_flight_calls_per_s: float


def measure(run: Run) -> Findings:
    """Calls every contender in interleaved blocks on each placement."""
    found, notes = contenders()
    n_blocks, n_calls = run.pick(full=11, quick=2), run.pick(full=800, quick=50)
    tables: list[Table] = []
    requirements: list[Requirement] = []
    for placement in placements():
        blocks = _blocks(found, placement, n_blocks, n_calls)
        tables.append(_table(found, blocks, placement))
        requirements += _requirements(found, blocks, placement)
    return Findings(tables, requirements, [*notes, f"{n_blocks} blocks of {n_calls} calls of each kind."])


def _blocks(found: list[Contender], placement: Placement, n_blocks: int, n_calls: int) -> dict[str, list[Block]]:
    blocks: dict[str, list[Block]] = {contender.name: [] for contender in found}
    with contextlib.ExitStack() as stack:
        stack.enter_context(running_on(placement.client))
        servers = {contender.name: stack.enter_context(contender.start(placement.server)) for contender in found}
        lines = {
            contender.name: [tool_line(contender.tool, contender.arguments, number) for number in range(n_calls)]
            for contender in found
        }
        for contender in found:
            servers[contender.name].initialize()
            result_of(servers[contender.name].ask(lines[contender.name][0]))
            _block(servers[contender.name], lines[contender.name])
        for _ in range(n_blocks):
            for contender in found:
                blocks[contender.name].append(_block(servers[contender.name], lines[contender.name]))
    return blocks


def _block(server: PipeServer, lines: list[bytes]) -> Block:
    times_us = _one_after_another(server, lines)
    return Block(
        p50_us=percentile(times_us, 0.5),
        p99_us=percentile(times_us, 0.99),
        calls_per_s=len(lines) / (sum(times_us) / 1e6),
        in_flight_calls_per_s=_in_flight(server, lines),
    )


def _one_after_another(server: PipeServer, lines: list[bytes]) -> list[float]:
    times_us: list[float] = []
    clock = time.perf_counter_ns
    for line in lines:
        before_ns = clock()
        server.ask(line)
        times_us.append((clock() - before_ns) / 1000)
    return times_us


def _in_flight(server: PipeServer, lines: list[bytes]) -> float:
    """Calls a second with `IN_FLIGHT` calls on their way, which is few enough for no pipe ever to fill."""
    before_s = time.perf_counter()
    server.send(b"".join(lines[:IN_FLIGHT]))
    for line in lines[IN_FLIGHT:]:
        server.receive()
        server.send(line)
    for _ in lines[:IN_FLIGHT]:
        server.receive()
    return len(lines) / (time.perf_counter() - before_s)


def _against_ours(found: list[Contender], blocks: dict[str, list[Block]], contender: Contender) -> Spread:
    (ours,) = (blocks[other.name] for other in found if other.kind is Kind.OURS)
    return ratio([block.p50_us for block in blocks[contender.name]], [block.p50_us for block in ours])


def _table(found: list[Contender], blocks: dict[str, list[Block]], placement: Placement) -> Table:
    rows: list[list[Cell]] = []
    for contender in found:
        theirs = blocks[contender.name]
        rows.append(
            [
                contender.name,
                contender.tool,
                spread([block.p50_us for block in theirs]).median,
                spread([block.p99_us for block in theirs]).median,
                round(spread([block.calls_per_s for block in theirs]).median),
                round(spread([block.in_flight_calls_per_s for block in theirs]).median),
                f"{_against_ours(found, blocks, contender).median:.2f}×",
            ]
        )
    columns = [
        "server",
        "tool",
        "p50 µs",
        "p99 µs",
        "calls/s one after another",
        f"calls/s {IN_FLIGHT} in flight",
        "p50 against vllm_server.py",
    ]
    return Table(placement.name, columns, rows)


def _requirements(found: list[Contender], blocks: dict[str, list[Block]], placement: Placement) -> list[Requirement]:
    ratios = [_against_ours(found, blocks, contender) for contender in found if contender.kind is Kind.SDK]
    if not ratios:
        return []
    fastest = min(ratios, key=lambda ratio: ratio.median)
    what = f"Round trip: how many times faster than the fastest SDK server ({placement.name})"
    return [Requirement(what, fastest.median, Bound.AT_LEAST, REQUIRED, low=fastest.low, high=fastest.high)]
