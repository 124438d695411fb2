"""`chat_completion` through the server against `LLM.chat` in a separate process.

Both have the same model, engine arguments, environment and CPUs. Both run all the time, but only one works at a time.
They take turns in blocks; in each block both generate replies to the same new conversations, greedily, with exactly the
requested number of tokens. The server's time is measured by its client: it includes JSON, pipes, validation, and
decoding the image from a PNG in a data URL. The raw engine's time is that of the call alone, with a PIL image. The
streamed rows are the server's with a progress token, on other conversations.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from benchmarks.engines import Messages, OurServer, RawEngine
from benchmarks.prompts import Prompts
from benchmarks.raw_engine import Answer
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import ratio, spread

TITLE = "Chat against raw vLLM"
MAX_TOKENS = 64
REQUIRED = 1.05


class Block(msgspec.Struct, frozen=True):
    """Medians of one block: seconds a call for each way, and seconds to the first piece of streamed text."""

    raw_s: float
    ours_s: float
    streamed_s: float
    first_text_s: float
    n_different: int


def measure(run: Run) -> Findings:
    """Text, then images."""
    n_blocks, n_calls = run.pick(full=20, quick=2), run.pick(full=12, quick=2)
    prompts = Prompts()
    kinds: tuple[tuple[str, Callable[[], Messages]], ...] = (("text", prompts.text), ("image", prompts.image))
    tables, requirements, notes = [], [], []
    with RawEngine(run.model) as raw, OurServer(run.model) as ours:
        for kind, prompt in kinds:
            _block(raw, ours, prompt, n_calls, raw_first=True)
            blocks = [_block(raw, ours, prompt, n_calls, raw_first=number % 2 == 0) for number in range(n_blocks)]
            tables.append(_table(kind, blocks))
            requirements.append(_requirement(kind, blocks))
            n_different = sum(block.n_different for block in blocks)
            notes.append(f"{kind}: {n_different} of {n_blocks * n_calls} answers differ from the raw engine's.")
    notes.append(f"{n_blocks} blocks of {n_calls} calls of each way, {MAX_TOKENS} tokens a call.")
    return Findings(tables, requirements, notes)


def _block(raw: RawEngine, ours: OurServer, prompt: Callable[[], Messages], n_calls: int, raw_first: bool) -> Block:
    conversations = [prompt() for _ in range(n_calls)]
    answers: dict[str, list[Answer]] = {}
    for name in ("raw", "ours") if raw_first else ("ours", "raw"):
        answers[name] = [
            raw.chat([messages], MAX_TOKENS) if name == "raw" else ours.chat(messages, MAX_TOKENS)
            for messages in conversations
        ]
    streamed = [ours.chat_streamed(prompt(), MAX_TOKENS) for _ in range(n_calls)]
    return Block(
        raw_s=_median_s(answers["raw"]),
        ours_s=_median_s(answers["ours"]),
        streamed_s=_median_s([answer for answer, _, _ in streamed]),
        first_text_s=statistics.median(first_s for _, first_s, _ in streamed),
        n_different=sum(a.texts != b.texts for a, b in zip(answers["raw"], answers["ours"], strict=True)),
    )


def _median_s(answers: list[Answer]) -> float:
    return statistics.median(answer.seconds for answer in answers)


def _table(kind: str, blocks: list[Block]) -> Table:
    raw = [block.raw_s for block in blocks]
    rows = [
        _row(RawEngine.name, raw, raw),
        _row(OurServer.name, [block.ours_s for block in blocks], raw),
        _row(f"{OurServer.name}, streamed", [block.streamed_s for block in blocks], raw),
        _row("… to its first text", [block.first_text_s for block in blocks], raw, whole=False),
    ]
    columns = ["way", "latency ms", "range ms", "tokens/s", f"against {RawEngine.name}"]
    return Table(f"{kind}, {MAX_TOKENS} tokens", columns, rows)


def _row(name: str, seconds: list[float], raw: list[float], whole: bool = True) -> list[Cell]:
    times = spread([1000 * value for value in seconds])
    return [
        name,
        times.median,
        f"{times.low:.1f} to {times.high:.1f}",
        round(MAX_TOKENS / statistics.median(seconds)) if whole else None,
        f"{ratio(seconds, raw).median:.3f}×" if whole else None,
    ]


def _requirement(kind: str, blocks: list[Block]) -> Requirement:
    against_raw = ratio([block.ours_s for block in blocks], [block.raw_s for block in blocks])
    what = f"Chat, {kind}, {MAX_TOKENS} tokens: latency over raw `LLM.chat`"
    return Requirement(what, against_raw.median, Bound.AT_MOST, REQUIRED, low=against_raw.low, high=against_raw.high)
