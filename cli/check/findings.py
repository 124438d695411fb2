"""The result of one check: a row of the table, and its plain text."""

from __future__ import annotations

import enum
import textwrap
from dataclasses import dataclass

SUBJECT_WIDTH = 18
STATE_WIDTH = 7
MIN_TEXT_WIDTH = 40


class State(enum.StrEnum):
    """The state of a subject: `OFF` if it is not configured or not needed, `WARNING` if it works in an unexpected way,
    `PROBLEM` if it is configured and does not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: a subject, its state, and an explanation or advice."""

    subject: str
    state: State
    text: str


def ok(subject: str, text: str) -> Finding:
    """The subject works."""
    return Finding(subject, State.OK, text)


def warning(subject: str, text: str) -> Finding:
    """The subject works, but maybe not as expected."""
    return Finding(subject, State.WARNING, text)


def problem(subject: str, text: str) -> Finding:
    """The subject is configured and does not work."""
    return Finding(subject, State.PROBLEM, text)


def off(subject: str, text: str) -> Finding:
    """The subject is not configured."""
    return Finding(subject, State.OFF, text)


def row(finding: Finding, width: int | None) -> str:
    """The row as one line, or as several if the text is longer than `width` columns."""
    head = f"{finding.subject:<{SUBJECT_WIDTH}} {finding.state:<{STATE_WIDTH}} "
    text_width = 0 if width is None else width - len(head)
    if text_width < MIN_TEXT_WIDTH:
        return head + finding.text
    lines = textwrap.wrap(finding.text, text_width, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * len(head)}".join([head + lines[0], *lines[1:]] if lines else [head])


def summary(findings: list[Finding], loaded: bool) -> str:
    """The last line: whether everything works, and the next step."""
    n_problems = sum(finding.state is State.PROBLEM for finding in findings)
    if n_problems:
        return f"{n_problems} problem{'s' * (n_problems > 1)}: follow the advice in the rows, then check again."
    if loaded:
        return "Everything that is configured works."
    return "No problem found. --check=load also loads and runs the model."


def gigabytes(n_bytes: float) -> str:
    """A readable size; a GB has 2^30 bytes."""
    return f"{n_bytes / (1 << 30):.1f} GB" if n_bytes >= 100 << 20 else f"{n_bytes / (1 << 20):.1f} MB"
