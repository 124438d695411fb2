"""Random streams of valid and invalid messages to the real process, checked with a model of the protocol
(`python -m tests.fuzz`).

Hypothesis generates the streams: requests of both protocol eras, calls of every tool with valid, nearly valid and
invalid arguments, batches, notifications, cancellations, and broken, mutated, huge and deep lines, written at once, in
pieces or byte by byte. Everything except the models is real. A message is one line that is not blank. Each request and
each unreadable line must get a response, and a cancelled call must not; this is the difference between expected and
received responses. Memory is the process's resident memory (`VmRSS`) after each stream, compared with that after 2,000
messages. The run ends at the first violation.
"""

from __future__ import annotations

from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from tests.fuzz.run import Report
from tests.fuzz.run import run as fuzz

TITLE = "Fuzzing"
REQUIRED_MIB = 64.0
SEED = 1_000
BROKEN = ("lost", "doubled", "crashed", "wrong")
COLUMNS = [
    "calls at once",
    "messages",
    "answers due",
    "answers",
    "lost",
    "doubled",
    "crashes",
    "wrong",
    "peak memory growth MiB",
    "seconds",
]


def measure(run: Run) -> Findings:
    """Plays the long run with calls one after another, and a shorter one with four at once."""
    n_messages = run.pick(full=200_000, quick=3_000)
    reports = {1: fuzz(n_messages, SEED), 4: fuzz(n_messages // 10, SEED, n_at_once=4)}
    rows = [_row(n_at_once, report) for n_at_once, report in reports.items()]
    n_broken = sum(report.finding is not None for report in reports.values())
    growths = [report.tally.peak_growth_bytes for report in reports.values()]
    what = f"Fuzzing with {n_messages:,} messages"
    requirements = [Requirement(f"{what}: broken promises", n_broken, Bound.AT_MOST, 0.0, unit="")]
    if measured := [growth / (1 << 20) for growth in growths if growth is not None]:
        what = f"{what}: peak growth of the process's memory"
        requirements.append(Requirement(what, max(measured), Bound.AT_MOST, REQUIRED_MIB, unit=" MiB"))
    notes = [f"```\n{report.finding}\n```" for report in reports.values() if report.finding is not None]
    return Findings([Table("the real process", COLUMNS, rows)], requirements, notes)


def _row(n_at_once: int, report: Report) -> list[Cell]:
    tally = report.tally
    broken: list[Cell] = [int(report.finding is not None and report.finding.violation.kind == kind) for kind in BROKEN]
    growth = tally.peak_growth_bytes
    growth_mib = None if growth is None else growth / (1 << 20)
    return [n_at_once, tally.n_messages, tally.n_due, tally.n_answered, *broken, growth_mib, report.took_s]
