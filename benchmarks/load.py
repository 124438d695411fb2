"""Many concurrent calls, and many sessions: lost replies, wrong order, and memory growth.

Calls are sent without waiting for replies, nine short chats and one `model_info` in ten, to the real process over its
pipes. A reply is lost when its id is missing or appears twice; it is out of order when a reply to a later call
precedes it. The sessions are used in turn, ten turns each; a turn is out of order when the number of stored messages
differs from what the previous turns imply. For the bounded queue, a long chat keeps the server busy while a thousand
calls arrive for a hundred places: calls beyond that must be rejected at once, and the others answered in order. Each
load is applied twice and measured the second time, so that the process's resident memory before and after excludes
caches that fill once: vLLM's blocks, and what torch keeps for each shape and thread.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import msgspec

from benchmarks.concurrent import out_of_order
from benchmarks.engines import OurServer
from benchmarks.memory import read
from benchmarks.pipe_server import Json, tool_line
from benchmarks.prompts import user
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run

TITLE = "Load"
MAX_TOKENS = 4
N_PLACES = 100
REQUIRED_MIB = 10.0


class Outcome(msgspec.Struct, frozen=True):
    """The results of calls; `n_refused` of them were rejected because the queue is full."""

    name: str
    n_calls: int
    n_refused: int
    n_failed: int
    n_lost: int
    n_out_of_order: int
    calls_per_s: float
    growth_mib: float


def measure(run: Run) -> Findings:
    """Queued calls with one worker and with eight, sessions in turn, and a queue that is full."""
    n_calls, n_sessions = run.pick(full=1_000, quick=100), run.pick(full=100, quick=10)
    outcomes = []
    with OurServer(run.model) as server:
        outcomes.append(_queued(server, f"{n_calls:,} queued calls", n_calls))
        outcomes.append(_sessions(server, f"{n_sessions} sessions in turn", n_sessions, run.pick(full=10, quick=2)))
    with OurServer(run.model, {"VLLM_MAX_CONCURRENT": "8"}) as server:
        outcomes.append(_queued(server, f"{n_calls:,} queued calls, eight at a time", n_calls))
    n_places = min(N_PLACES, n_calls // 10)
    with OurServer(run.model, {"VLLM_MAX_QUEUE": str(n_places)}) as server:
        outcomes.append(_bounded(server, f"{n_calls:,} calls for {n_places} places", n_calls))
    in_order = [outcome for outcome in outcomes if "at a time" not in outcome.name]
    requirements = [
        Requirement("Load: replies lost or doubled", sum(o.n_lost for o in outcomes), Bound.AT_MOST, 0, unit=""),
        Requirement("Load: replies out of order", sum(o.n_out_of_order for o in in_order), Bound.AT_MOST, 0, unit=""),
        Requirement(
            "Load: most growth of memory", max(o.growth_mib for o in outcomes), Bound.AT_MOST, REQUIRED_MIB, unit=" MiB"
        ),
    ]
    columns = ["load", "calls", "refused", "failed", "lost", "out of order", "calls/s", "memory MiB"]
    notes = ["With eight calls at a time the order of replies is free; out of order is counted all the same."]
    return Findings(
        [Table("what became of the calls", columns, [_row(outcome) for outcome in outcomes])], requirements, notes
    )


def _row(outcome: Outcome) -> list[Cell]:
    return [
        outcome.name,
        outcome.n_calls,
        outcome.n_refused,
        outcome.n_failed,
        outcome.n_lost,
        outcome.n_out_of_order,
        round(outcome.calls_per_s),
        f"{outcome.growth_mib:+.1f}",
    ]


def _line(number: int, **more: object) -> bytes:
    if number % 10 == 9 and not more:
        return tool_line("model_info", {}, number)
    return tool_line("chat_completion", {"messages": [user(f"{number}: hello")], **_SAMPLING, **more}, number)


_SAMPLING: Json = {"temperature": 0, "max_tokens": MAX_TOKENS, "ignore_eos": True}


def _queued(server: OurServer, name: str, n_calls: int) -> Outcome:
    lines = [_line(number) for number in range(n_calls)]
    _outcome(server, name, lines)
    return _outcome(server, name, lines)[0]


def _bounded(server: OurServer, name: str, n_calls: int) -> Outcome:
    long = tool_line("chat_completion", {"messages": [user("Go on.")], **_SAMPLING, "max_tokens": 2_000}, 0)
    lines = [long, *(_line(number) for number in range(1, n_calls))]
    _outcome(server, name, lines)
    return _outcome(server, name, lines)[0]


def _sessions(server: OurServer, name: str, n_sessions: int, n_turns: int) -> Outcome:
    for time in ("first", "second"):
        turns = itertools.product(range(n_turns), range(n_sessions))
        lines = [_line(number, session_id=f"{time} {session}") for number, (_, session) in enumerate(turns)]
        outcome, results = _outcome(server, name, lines)
    n_wrong = sum(
        results[number]["structuredContent"]["session_messages"] != 2 * (number // n_sessions) + 2
        for number in results
        if not results[number]["isError"]
    )
    return msgspec.structs.replace(outcome, n_out_of_order=outcome.n_out_of_order + n_wrong)


def _outcome(server: OurServer, name: str, lines: Sequence[bytes]) -> tuple[Outcome, dict[int, Json]]:
    """Sends the lines, whose ids count from 0; returns what happened to them, and the results by id."""
    before = read(server, "")
    seconds, replies = server.pipelined(lines)
    messages = [msgspec.json.decode(reply) for reply in replies]
    results = {message["id"]: message["result"] for message in messages}
    refused = {number for number, result in results.items() if result["isError"] and "VLLM_MAX_QUEUE" in str(result)}
    times = Counter(message["id"] for message in messages)
    return Outcome(
        name=name,
        n_calls=len(lines),
        n_refused=len(refused),
        n_failed=sum(result["isError"] for result in results.values()) - len(refused),
        n_lost=sum(times[number] != 1 for number in range(len(lines))),
        n_out_of_order=out_of_order([message["id"] for message in messages if message["id"] not in refused]),
        calls_per_s=len(lines) / seconds,
        growth_mib=read(server, "").resident_mib - before.resident_mib,
    ), results
