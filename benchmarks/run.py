"""What a run was asked to do."""

from __future__ import annotations

import msgspec


class Run(msgspec.Struct, frozen=True):
    """The options of the command line that benchmarks look at; `model` is a folder or a Hugging Face name,
    `minutes` how long the soak takes."""

    model: str
    quick: bool = False
    minutes: float = 10.0

    def pick(self, *, full: int, quick: int) -> int:
        """How many samples: `full`, or `quick` when only the measurement itself is tried."""
        return quick if self.quick else full
