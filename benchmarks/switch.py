"""Two models behind one server, used in turn: with room for both, and with room for one.

With room for both, calls of one token to one model again and again are set against the same calls to both in turn: what
a call takes longer is the cost of the switch. With room for one (`VLLM_MAX_LOADED_MODELS=1`), each call has the other
model give way and loads its own. The memory is the kernel's figure for the
process, after calls to the same model.

The second model is SmolLM2-135M-Instruct where the tests have made it (`.cache/models`), in bfloat16, else the first
model under another name.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

import msgspec

from benchmarks.contenders import ROOT
from benchmarks.engines import OurServer
from benchmarks.memory import read
from benchmarks.prompts import Prompts
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import spread

TITLE = "Switching between models"
REAL_MODEL = ROOT / ".cache" / "models" / "smollm2-135m-instruct"
SECOND = "second"
REQUIRED_MS = 5.0
REQUIRED_MIB = 20.0


class Switch(msgspec.Struct, frozen=True):
    """One call that loads its model, and the memory after it."""

    model: str
    seconds: float
    load_s: float
    resident_mib: float


def measure(run: Run) -> Findings:
    """Both cases."""
    real = (REAL_MODEL / "config.json").exists()
    second = {"model": str(REAL_MODEL), "dtype": "bfloat16"} if real else {"model": run.model}
    models = {"VLLM_MODELS": json.dumps({SECOND: second}), "GPU_IDLE_TIMEOUT": "0"}
    names = ("the bundled model", "SmolLM2-135M-Instruct" if real else "the same model again")
    loaded, cost_ms = _between_loaded(run, models, names)
    given_way, growth_mib = _with_eviction(run, models, names)
    requirements = [
        Requirement(
            "Switch between two loaded models: what a call takes longer", cost_ms, Bound.AT_MOST, REQUIRED_MS, " ms"
        )
    ]
    if growth_mib is not None:
        what = "Memory: growth from the third to the tenth switch with eviction"
        requirements.append(Requirement(what, growth_mib, Bound.AT_MOST, REQUIRED_MIB, " MiB"))
    return Findings([loaded, given_way], requirements)


def _between_loaded(run: Run, models: dict[str, str], names: Sequence[str]) -> tuple[Table, float]:
    n_calls = run.pick(full=100, quick=5)
    with OurServer(run.model, models) as server:
        for index in (0, 1):
            _ask(server, index, Prompts(seed=7))
        prompts = Prompts(seed=8)
        alone_ms = [[1e3 * _ask(server, index, prompts)[0] for _ in range(n_calls)] for index in (0, 1)]
        in_turn_ms = [1e3 * _ask(server, call % 2, prompts)[0] for call in range(2 * n_calls)]
    rows: list[list[Cell]] = []
    costs_ms = []
    for index, name in enumerate(names):
        alone, switched = spread(alone_ms[index]), spread(in_turn_ms[index::2])
        costs_ms.append(switched.median - alone.median)
        rows.append([name, alone.median, switched.median, costs_ms[-1]])
    columns = ["model", "ms a call to it alone", "ms a call in turn with the other", "difference ms"]
    return Table("both models loaded, one token a call", columns, rows), max(costs_ms)


def _with_eviction(run: Run, models: dict[str, str], names: Sequence[str]) -> tuple[Table, float | None]:
    n_switches = run.pick(full=12, quick=2)
    prompts = Prompts(seed=9)
    switches: list[list[Switch]] = [[], []]
    with OurServer(run.model, {**models, "VLLM_MAX_LOADED_MODELS": "1"}) as server:
        _ask(server, 0, prompts)
        for number in range(n_switches):
            index = (number + 1) % 2
            seconds, load_s = _ask(server, index, prompts)
            switches[index].append(Switch(names[index], seconds, load_s, read(server, "").resident_mib))
    rows: list[list[Cell]] = []
    for made in filter(None, switches):
        loads_s = spread([each.load_s for each in made])
        rows.append(
            [
                made[0].model,
                loads_s.median,
                f"{loads_s.low:.1f} to {loads_s.high:.1f}",
                statistics.median(each.seconds for each in made),
                made[0].resident_mib,
                made[-1].resident_mib,
            ]
        )
    columns = ["model", "s to load", "range s", "s for the whole call", "MiB after the first", "MiB after the last"]
    growths = [made[4].resident_mib - made[1].resident_mib for made in switches if len(made) > 4]
    return Table("room for one model", columns, rows), max(growths, default=None)


def _ask(server: OurServer, index: int, prompts: Prompts) -> tuple[float, float]:
    """A chat of one token with a model: the seconds it took, and those of the load."""
    named = {"model": SECOND} if index else {}
    arguments = {"messages": prompts.text(), "max_tokens": 1, "temperature": 0, **named}
    seconds, result = server.call("chat_completion", arguments)
    return seconds, result["timings"]["load_ms"] / 1e3
