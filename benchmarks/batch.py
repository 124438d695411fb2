"""`chat_completion_batch` of 32 conversations against one `LLM.chat` on the same list, and against one call each.

As in the chat benchmark, the engines are equal, each round has new conversations, the same for both sides, and the
sides take turns. The server gets images as PNGs in data URLs, the raw engine as PIL images. The single calls use other
conversations, so that no cache has them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from benchmarks.engines import Messages, OurServer, RawEngine, one_by_one
from benchmarks.prompts import Prompts
from benchmarks.raw_engine import Answer
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import Spread, ratio, spread

TITLE = "Batches against raw vLLM"
N_CONVERSATIONS = 32
MAX_TOKENS = 64
REQUIRED = 1.05


class Round(msgspec.Struct, frozen=True):
    """Runs one batch in each way."""

    raw: Answer
    ours: Answer
    raw_one_by_one: Answer
    ours_one_by_one: Answer


def measure(run: Run) -> Findings:
    """Text, then images."""
    n_rounds, n_conversations = run.pick(full=12, quick=1), run.pick(full=N_CONVERSATIONS, quick=4)
    prompts = Prompts(seed=1)
    kinds: tuple[tuple[str, Callable[[], Messages]], ...] = (("text", prompts.text), ("image", prompts.image))
    tables, requirements, notes = [], [], []
    with RawEngine(run.model) as raw, OurServer(run.model) as ours:
        for kind, prompt in kinds:
            _round(raw, ours, prompt, n_conversations, raw_first=True)
            rounds = [
                _round(raw, ours, prompt, n_conversations, raw_first=number % 2 == 0) for number in range(n_rounds)
            ]
            tables.append(_table(f"{n_conversations} × {kind}", rounds))
            requirements.append(_requirement(f"{n_conversations} × {kind}", rounds))
            n_different = sum(a != b for each in rounds for a, b in zip(each.raw.texts, each.ours.texts, strict=True))
            n_answers = n_rounds * n_conversations
            notes.append(f"{kind}: {n_different} of {n_answers} answers differ from the raw engine's.")
    notes.append(f"{n_rounds} rounds, {MAX_TOKENS} tokens a conversation.")
    return Findings(tables, requirements, notes)


def _round(
    raw: RawEngine, ours: OurServer, prompt: Callable[[], Messages], n_conversations: int, raw_first: bool
) -> Round:
    conversations = [prompt() for _ in range(n_conversations)]
    singles = [prompt() for _ in range(n_conversations)]
    raw_batch = raw.chat(conversations, MAX_TOKENS) if raw_first else None
    ours_batch = ours.chat_batch(conversations, MAX_TOKENS)
    return Round(
        raw=raw_batch or raw.chat(conversations, MAX_TOKENS),
        ours=ours_batch,
        raw_one_by_one=one_by_one(lambda messages: raw.chat([messages], MAX_TOKENS), singles),
        ours_one_by_one=one_by_one(lambda messages: ours.chat(messages, MAX_TOKENS), singles),
    )


def _table(name: str, rounds: list[Round]) -> Table:
    raw = [each.raw for each in rounds]
    ways = (
        (f"{RawEngine.name}, the list", raw),
        (f"{OurServer.name}, one batch", [each.ours for each in rounds]),
        (f"{RawEngine.name}, one by one", [each.raw_one_by_one for each in rounds]),
        (f"{OurServer.name}, one by one", [each.ours_one_by_one for each in rounds]),
    )
    columns = ["way", "ms in all", "range ms", "tokens/s", f"against {RawEngine.name}, the list"]
    return Table(name, columns, [_row(way, answers, raw) for way, answers in ways])


def _row(name: str, answers: list[Answer], raw: list[Answer]) -> list[Cell]:
    times = spread([1000 * answer.seconds for answer in answers])
    return [
        name,
        times.median,
        f"{times.low:.0f} to {times.high:.0f}",
        round(statistics.median(answer.completion_tokens / answer.seconds for answer in answers)),
        f"{_against(answers, raw).median:.3f}×",
    ]


def _against(answers: list[Answer], raw: list[Answer]) -> Spread:
    return ratio([answer.seconds for answer in answers], [answer.seconds for answer in raw])


def _requirement(name: str, rounds: list[Round]) -> Requirement:
    against_raw = _against([each.ours for each in rounds], [each.raw for each in rounds])
    what = f"Batch, {name}, {MAX_TOKENS} tokens: time over raw `LLM.chat` on the list"
    return Requirement(what, against_raw.median, Bound.AT_MOST, REQUIRED, low=against_raw.low, high=against_raw.high)
