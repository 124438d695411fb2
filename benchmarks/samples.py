"""Measured values and their statistics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """The median of values, with the smallest and largest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest."""
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratio(values: Sequence[float], anchors: Sequence[float]) -> Spread:
    """Each value divided by the baseline measured next to it, which cancels what slows both."""
    return spread([value / anchor for value, anchor in zip(values, anchors, strict=True)])
