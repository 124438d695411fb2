"""Draws streams until enough messages were played, and shrinks the first one that breaks a promise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings

from tests.fuzz.campaign import Campaign, Tally
from tests.fuzz.ledger import Violation
from tests.fuzz.messages import Stream, streams

STREAMS_A_ROUND = 50
"""Hypothesis remembers all it has drawn in a round."""
SHRINK_S = 60.0
"""How long a stream is shortened. Where a response is missing, each try takes seconds."""


@dataclass(frozen=True)
class Finding:
    """The smallest stream found that breaks a promise, and the seed that leads to it at once."""

    seed: int
    violation: Violation
    stream: Stream | None
    alone: bool = False
    """Whether the stream breaks the promise in a new server; otherwise the streams before it matter too."""
    n_at_once: int = 1

    def __str__(self) -> str:
        lines = [
            f"{self.violation}",
            f"again: python -m tests.fuzz --messages 1 --seed {self.seed} --at-once {self.n_at_once}",
            *([] if self.alone else ["not broken by this stream alone: an earlier one matters too"]),
        ]
        if self.stream is not None:
            lines += [f"version {self.stream.version}, cuts {self.stream.cuts}, lines:"]
            lines += [
                repr(line[:2_000]) + ("" if len(line) <= 2_000 else f" … {len(line)} bytes")
                for line in self.stream.lines
            ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """The result of a run."""

    tally: Tally
    finding: Finding | None
    took_s: float


def run(n_messages: int, seed: int, n_at_once: int = 1, environment: Mapping[str, str] | None = None) -> Report:
    """Sends at least `n_messages`, or stops at the first broken promise; `n_at_once` calls run at once.

    `environment` is added to the environment of the server.
    """
    began_s = time.monotonic()
    finding = None
    with Campaign({"VLLM_MAX_CONCURRENT": str(n_at_once), **(environment or {})}) as campaign:
        drawn = streams(campaign.tools, campaign.images)
        while finding is None and campaign.tally.n_messages < n_messages:
            finding = _round(campaign, drawn, seed)
            seed += 1
        if finding is None:
            try:
                campaign.end()
            except Violation as violation:
                finding = Finding(seed, violation, None)
    if finding is not None:
        finding = replace(finding, n_at_once=n_at_once)
    return Report(campaign.tally, finding, time.monotonic() - began_s)


def _round(campaign: Campaign, drawn: hypothesis.strategies.SearchStrategy[Stream], seed: int) -> Finding | None:
    last: list[Stream] = []

    @hypothesis.seed(seed)
    @settings(
        max_examples=STREAMS_A_ROUND,
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(drawn)
    def keeps_its_promises(stream: Stream) -> None:
        if not last:
            try:
                campaign.play(stream)
            except Violation as violation:
                last.append(stream)
                found.append(violation)

    found: list[Violation] = []
    keeps_its_promises()
    return _smallest(campaign, last[0], Finding(seed, found[0], last[0])) if found else None


def _smallest(campaign: Campaign, stream: Stream, finding: Finding) -> Finding:
    """The finding with the shortest stream that still shows it, within `SHRINK_S`.

    Each try starts a new server. Hypothesis makes far more tries, which would take an hour.
    """
    until_s = time.monotonic() + SHRINK_S
    n_lines = len(stream.lines)
    while n_lines and time.monotonic() < until_s:
        for begin in range(0, len(stream.lines), n_lines):
            lines = stream.lines[:begin] + stream.lines[begin + n_lines :]
            for smaller in (replace(stream, lines=lines, cuts=()), replace(stream, lines=lines)):
                violation = campaign.violation_of(smaller) if time.monotonic() < until_s else None
                if violation is not None:
                    break
            if violation is not None:
                stream, finding = smaller, Finding(finding.seed, violation, smaller, alone=True)
                break
        else:
            n_lines //= 2
    return finding
