"""The options of a run."""

from __future__ import annotations

import msgspec


class Run(msgspec.Struct, frozen=True):
    """The command-line options that benchmarks use; `model` is a folder or a Hugging Face name, `minutes` the duration
    of the soak, `before` the earlier commit of comparisons ("" for the benchmark's own)."""

    model: str
    quick: bool = False
    minutes: float = 10.0
    before: str = ""

    def pick(self, *, full: int, quick: int) -> int:
        """The number of samples: `full`, or `quick` in a quick run."""
        return quick if self.quick else full
