"""Memory on a GPU: how long releasing takes and how much it frees, and how long the next call waits.

`offload_gpu` is vLLM's sleep level 1, with the weights in host memory; `release_gpu` shuts the engine down. Each is
followed by a chat of one token, which loads the model again. Memory is what the driver reports before and after.
"""

from __future__ import annotations

from benchmarks import machine
from benchmarks.engines import OurServer
from benchmarks.prompts import Prompts
from benchmarks.results import Cell, Findings, Table
from benchmarks.run import Run
from benchmarks.samples import spread

TITLE = "The model's life on a GPU"
COLUMNS = ["call", "s", "range s", "GB given back"]
CALLS = ("offload_gpu", "release_gpu")
NEXT = "… the next chat"
NOT_MEASURED = "not measured"


def measure(run: Run) -> Findings:
    """Both ways, round by round; without a GPU the table says that nothing was measured."""
    if machine.describe().gpu == "none":
        rows: list[list[Cell]] = [[name, *[NOT_MEASURED] * 3] for call in CALLS for name in (call, NEXT)]
        return Findings([Table("one model", COLUMNS, rows)], [], ["This machine has no GPU that the driver reports."])
    n_rounds = run.pick(full=5, quick=1)
    prompts = Prompts(seed=4)
    given_s: dict[str, list[float]] = {call: [] for call in CALLS}
    next_s: dict[str, list[float]] = {call: [] for call in CALLS}
    freed_gb: dict[str, list[float]] = {call: [] for call in CALLS}
    with OurServer(run.model) as ours:
        ours.chat(prompts.text(), 1)
        for _ in range(n_rounds):
            for call in CALLS:
                seconds, result = ours.call(call, {})
                given_s[call].append(seconds)
                if result["freed_gb"] is not None:
                    freed_gb[call].append(result["freed_gb"])
                next_s[call].append(ours.chat(prompts.text(), 1).seconds)
    rows = []
    for call in CALLS:
        rows.append(_row(call, given_s[call], spread(freed_gb[call]).median if freed_gb[call] else None))
        rows.append(_row(NEXT, next_s[call], None))
    return Findings([Table("one model", COLUMNS, rows)], [], [f"{n_rounds} rounds."])


def _row(name: str, seconds: list[float], freed_gb: float | None) -> list[Cell]:
    times = spread(seconds)
    return [name, times.median, f"{times.low:.2f} to {times.high:.2f}", freed_gb]
