"""The results of benchmarks, and the file that stores them by section, so that one can be run again alone."""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

from benchmarks.machine import Machine

Cell = float | int | str | None


class Bound(enum.StrEnum):
    """Which side of its bound a required figure must be on."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


class Requirement(msgspec.Struct, frozen=True):
    """A promise, as one figure and its bound; `low` and `high` say how far the figure's samples lie apart."""

    what: str
    measured: float
    side: Bound
    bound: float
    unit: str = "×"
    low: float | None = None
    high: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side."""
        return self.measured >= self.bound if self.side is Bound.AT_LEAST else self.measured <= self.bound


class Table(msgspec.Struct, frozen=True):
    """Rows under the names of their columns, units in the names."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


class Findings(msgspec.Struct, frozen=True):
    """What a benchmark hands back."""

    tables: list[Table]
    requirements: list[Requirement]
    notes: list[str] = []


class Section(msgspec.Struct, frozen=True):
    """A benchmark's findings with what they were measured on.

    `method` is its docstring; `others_share` is how much of the CPUs others used meanwhile, 0 to 1.
    """

    name: str
    title: str
    method: str
    machine: Machine
    quick: bool
    took_s: float
    others_share: float
    findings: Findings


def load(path: Path) -> dict[str, Section]:
    """The sections of earlier runs by name."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Section]) if path.exists() else {}


def save(path: Path, sections: dict[str, Section]) -> None:
    """Writes all sections as JSON that is pleasant to compare."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(sections), indent=1) + b"\n")
