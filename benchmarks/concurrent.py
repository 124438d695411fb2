"""32 chats that a client sends without waiting for replies, against one `LLM.chat` on the same list of 32.

Raw vLLM and the server have the same batch width: `max_num_seqs` for both, and as many concurrent calls on the
server (`VLLM_MAX_CONCURRENT`). Both have the same model, engine arguments, environment and CPUs. Both run all the time,
but only one works at a time. They take turns in blocks; in each block both generate replies to the same new
conversations, greedily, with exactly the requested number of tokens. The server's time is measured by its client, from
the first byte sent to the last one received, including JSON and pipes. The last row is the default: one call after
another, replies in order.
"""

from __future__ import annotations

import statistics

import msgspec

from benchmarks.engines import OurServer, RawEngine
from benchmarks.prompts import Prompts
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import ratio, spread

TITLE = "Calls at the same time"
N_CHATS = 32
MAX_TOKENS = 64
WIDTHS = (8, 32)
REQUIRED = 0.8


class Block(msgspec.Struct, frozen=True):
    """Tokens per second of both ways; whether each id had one reply; replies that differ; replies out of order."""

    raw: float
    ours: float
    n_different: int
    n_out_of_order: int


def measure(run: Run) -> Findings:
    """Each width, then one call after another."""
    n_blocks = run.pick(full=12, quick=2)
    prompts = Prompts(seed=7)
    rows: list[list[Cell]] = []
    requirements, notes = [], []
    speeds: dict[int, tuple[float, float]] = {}
    for width in WIDTHS:
        blocks = _blocks(run, prompts, width, n_blocks)
        raw, ours = [block.raw for block in blocks], [block.ours for block in blocks]
        rows += [_row(f"{RawEngine.name}, batches of {width}", raw, raw, 0)]
        rows += [_row(f"{width} calls at a time", ours, raw, max(block.n_out_of_order for block in blocks))]
        against = ratio(ours, raw)
        what = (
            f"{N_CHATS} pipelined chats, {width} at a time: tokens a second over raw `LLM.chat` in batches of {width}"
        )
        requirements.append(
            Requirement(what, against.median, Bound.AT_LEAST, REQUIRED, low=against.low, high=against.high)
        )
        speeds[width] = statistics.median(raw), statistics.median(ours)
        n_different = sum(block.n_different for block in blocks)
        notes.append(f"{width} at a time: {n_different} of {n_blocks * N_CHATS} answers differ from the raw engine's.")
    in_order, n_out_of_order = _in_order(run, prompts, run.pick(full=4, quick=1))
    rows.append(_row("one after another", in_order, in_order, n_out_of_order))
    what = f"{N_CHATS} pipelined chats, one at a time: replies out of order"
    requirements.append(Requirement(what, n_out_of_order, Bound.AT_MOST, 0, unit=""))
    narrow, wide = min(WIDTHS), max(WIDTHS)
    share = speeds[narrow][1] / speeds[wide][0]
    notes.append(f"{narrow} calls at a time reach {share:.2f}× of raw batches of {wide}: the width is what counts.")
    notes.append(f"{n_blocks} blocks of {N_CHATS} chats of {MAX_TOKENS} tokens, medians.")
    columns = ["way", "tokens/s", "range", "against raw, as wide", "most replies out of order"]
    return Findings([Table(f"{N_CHATS} chats, {MAX_TOKENS} tokens each", columns, rows)], requirements, notes)


def out_of_order(ids: list[int]) -> int:
    """How many replies came after a reply to a later call."""
    return sum(number < max(ids[:place], default=number) for place, number in enumerate(ids))


def _blocks(run: Run, prompts: Prompts, width: int, n_blocks: int) -> list[Block]:
    more = {"VLLM_EXTRA_ENGINE_ARGS": f'{{"max_num_seqs": {width}}}', "VLLM_MAX_CONCURRENT": str(width)}
    with RawEngine(run.model, more) as raw, OurServer(run.model, more) as ours:
        _block(raw, ours, prompts, raw_first=True)
        return [_block(raw, ours, prompts, raw_first=number % 2 == 0) for number in range(n_blocks)]


def _block(raw: RawEngine, ours: OurServer, prompts: Prompts, raw_first: bool) -> Block:
    conversations = [prompts.text() for _ in range(N_CHATS)]
    if raw_first:
        expected = raw.chat(conversations, MAX_TOKENS)
    answer, ids = ours.chat_pipelined(conversations, MAX_TOKENS)
    if not raw_first:
        expected = raw.chat(conversations, MAX_TOKENS)
    return Block(
        raw=expected.completion_tokens / expected.seconds,
        ours=answer.completion_tokens / answer.seconds,
        n_different=sum(a != b for a, b in zip(expected.texts, answer.texts, strict=True)),
        n_out_of_order=out_of_order(ids),
    )


def _in_order(run: Run, prompts: Prompts, n_blocks: int) -> tuple[list[float], int]:
    """Tokens a second of each block, and all replies out of order, one call at a time."""
    speeds, n_out_of_order = [], 0
    with OurServer(run.model) as server:
        server.chat(prompts.text(), 1)
        for _ in range(n_blocks):
            answer, ids = server.chat_pipelined([prompts.text() for _ in range(N_CHATS)], MAX_TOKENS)
            speeds.append(answer.completion_tokens / answer.seconds)
            n_out_of_order += out_of_order(ids)
    return speeds, n_out_of_order


def _row(name: str, speeds: list[float], raw: list[float], n_out_of_order: int) -> list[Cell]:
    found = spread(speeds)
    against = None if speeds is raw else f"{ratio(speeds, raw).median:.2f}×"
    return [name, round(statistics.median(speeds)), f"{found.low:.0f} to {found.high:.0f}", against, n_out_of_order]
