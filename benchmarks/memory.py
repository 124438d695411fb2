"""The memory of the server's process after many calls.

After a warm-up, the server gets the given number of `model_info` calls and of short text chats. The figures are the
kernel's for that process (`VmRSS`, open descriptors, threads), read while no call runs. vLLM uses all blocks of its KV
cache once before it reuses one, and on a CPU the kernel counts a block only after it was written. So the warm-up
continues until 100 chats add less than 1 MiB, or 30 times at most.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from benchmarks.engines import OurServer
from benchmarks.pipe_server import tool_line
from benchmarks.prompts import Prompts
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run

TITLE = "Memory"
REQUIRED_MIB = 10.0
MAX_TOKENS = 16
N_READINGS = 5
PLATEAU_MIB = 1.0


class Reading(msgspec.Struct, frozen=True):
    """The process at one moment."""

    after: str
    resident_mib: float
    n_descriptors: int
    n_threads: int


def measure(run: Run) -> Findings:
    """Reads the process's figures at the start, after the warm-up, and then after every fifth of the calls."""
    n_infos, n_chats = run.pick(full=10_000, quick=100), run.pick(full=500, quick=10)
    prompts = Prompts(seed=3)
    with OurServer(run.model) as server:
        readings = [read(server, "`initialize`"), _warm_up(server, prompts, n_chats // 5, run.pick(full=30, quick=2))]
        for part in range(1, N_READINGS + 1):
            _ask(server, prompts, n_infos // N_READINGS, n_chats // N_READINGS)
            n_asked = f"{n_infos * part // N_READINGS:,} `model_info`, {n_chats * part // N_READINGS} chats"
            readings.append(read(server, n_asked))
    rows: list[list[Cell]] = [
        [reading.after, reading.resident_mib, reading.n_descriptors, reading.n_threads] for reading in readings
    ]
    warm, last = readings[1], readings[-1]
    growth_mib = last.resident_mib - warm.resident_mib
    what = f"Memory: growth over {n_infos:,} `model_info` and {n_chats} chats after the warm-up"
    table = Table("the server's process", ["after", "resident MiB", "open descriptors", "threads"], rows)
    return Findings([table], [Requirement(what, growth_mib, Bound.AT_MOST, REQUIRED_MIB, unit=" MiB")])


def _warm_up(server: OurServer, prompts: Prompts, n_chats: int, max_times: int) -> Reading:
    """Calls until the process has stopped growing; see the docstring of this file."""
    resident_mib = 0.0
    for number in range(1, max_times + 1):
        _ask(server, prompts, n_chats, n_chats)
        reading = read(server, f"warm-up: {number * n_chats} of each")
        if reading.resident_mib - resident_mib < PLATEAU_MIB:
            break
        resident_mib = reading.resident_mib
    return reading


def _ask(server: OurServer, prompts: Prompts, n_infos: int, n_chats: int) -> None:
    line = tool_line("model_info", {})
    for _ in range(n_infos):
        server.pipes.ask(line)
    for _ in range(n_chats):
        server.chat(prompts.text(), MAX_TOKENS)


def read(server: OurServer, after: str) -> Reading:
    """The process's figures now; `after` describes the calls so far."""
    process = Path(f"/proc/{server.pipes.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Reading(
        after=after,
        resident_mib=int(status["VmRSS"].split()[0]) / 1024,
        n_descriptors=len(os.listdir(process / "fd")),
        n_threads=int(status["Threads"]),
    )
