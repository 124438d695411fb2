"""Measured values and what is said of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """The median of some values and how far they lie apart."""

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
    """Each value over the anchor that was measured next to it, so that what slows both at a time falls out."""
    return spread([value / anchor for value, anchor in zip(values, anchors, strict=True)])
