"""What a check finds: one row of the table, and the table as plain text."""

from __future__ import annotations

import enum
import textwrap
from dataclasses import dataclass

SUBJECT_WIDTH = 18
STATE_WIDTH = 7
LEAST_TEXT_WIDTH = 40


class State(enum.StrEnum):
    """How it is: `OFF` for what nobody asked for or what is not needed, `WARNING` for what works but not as one may
    think, `PROBLEM` for what was asked for and will not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: a thing, how it is, and what that means or what to do about it."""

    subject: str
    state: State
    text: str


def ok(subject: str, text: str) -> Finding:
    """What works."""
    return Finding(subject, State.OK, text)


def warning(subject: str, text: str) -> Finding:
    """What works, but maybe not as expected."""
    return Finding(subject, State.WARNING, text)


def problem(subject: str, text: str) -> Finding:
    """What was asked for and does not work."""
    return Finding(subject, State.PROBLEM, text)


def off(subject: str, text: str) -> Finding:
    """What was not asked for."""
    return Finding(subject, State.OFF, text)


def row(finding: Finding, width: int | None) -> str:
    """One line, or several where the terminal has `width` columns and the text is longer."""
    head = f"{finding.subject:<{SUBJECT_WIDTH}} {finding.state:<{STATE_WIDTH}} "
    text_width = 0 if width is None else width - len(head)
    if text_width < LEAST_TEXT_WIDTH:
        return head + finding.text
    lines = textwrap.wrap(finding.text, text_width, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * len(head)}".join([head + lines[0], *lines[1:]] if lines else [head])


def summary(findings: list[Finding], loaded: bool) -> str:
    """The last line: whether everything works, and what to do next."""
    n_problems = sum(finding.state is State.PROBLEM for finding in findings)
    if n_problems:
        return f"{n_problems} problem{'s' * (n_problems > 1)}: do what the rows say, then check again."
    if loaded:
        return "Everything that is set up works."
    return "Nothing wrong was found. --check=load also loads the model and has it answer."


def gigabytes(n_bytes: float) -> str:
    """A size for people; a GB has 2^30 bytes."""
    return f"{n_bytes / (1 << 30):.1f} GB" if n_bytes >= 100 << 20 else f"{n_bytes / (1 << 20):.1f} MB"
