"""From `notifications/cancelled` during a generation to the result of the next call.

Each time, the server generates up to 2,000 tokens without an early end. After the first text, one write sends the
cancellation and a `model_info` call. The time is from that write to the result of `model_info`, which the queue runs
only after the engine has stopped.
"""

from __future__ import annotations

import time

from benchmarks.engines import OurServer
from benchmarks.pipe_server import Json, ServerFailed, tool_line
from benchmarks.prompts import Prompts
from benchmarks.results import Bound, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import percentile, spread

TITLE = "Cancelling"
MAX_TOKENS = 2000
REQUIRED_MS = 200.0
GENERATION_ID, NEXT_ID = 1, 2
CANCEL = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}\n'


def measure(run: Run) -> Findings:
    """Cancels one generation after another."""
    n_cancels = run.pick(full=50, quick=3)
    prompts = Prompts(seed=5)
    with OurServer(run.model) as server:
        server.chat(prompts.text(), 1)
        times_ms = [_cancel_ms(server, prompts) for _ in range(n_cancels)]
    found = spread(times_ms)
    row = [n_cancels, found.median, percentile(times_ms, 0.95), found.high]
    table = Table("cancellation to the next answer", ["times", "median ms", "95 % within ms", "longest ms"], [[*row]])
    what = "Cancelling a generation of 2,000 tokens: longest time to the next answer"
    return Findings([table], [Requirement(what, found.high, Bound.AT_MOST, REQUIRED_MS, unit=" ms")])


def _cancel_ms(server: OurServer, prompts: Prompts) -> float:
    arguments: Json = {
        "messages": prompts.text(),
        "max_tokens": MAX_TOKENS,
        "min_tokens": MAX_TOKENS,
        "ignore_eos": True,
    }
    server.pipes.send(tool_line("chat_completion", arguments, GENERATION_ID, progress_token=1))
    _read_until(server, b'"notifications/progress"')
    next_call = tool_line("model_info", {}, NEXT_ID)
    started_s = time.perf_counter()
    server.pipes.send(CANCEL + next_call)
    _read_until(server, b'"id":2,')
    return (time.perf_counter() - started_s) * 1e3


def _read_until(server: OurServer, mark: bytes) -> None:
    """Reads lines up to the one that begins with `mark` in it.

    Raises: `ServerFailed` when the cancelled call is answered.
    """
    while mark not in (head := server.pipes.receive()[:100]):
        if b'"id":1,' in head:
            raise ServerFailed("the generation was answered, not cancelled")
