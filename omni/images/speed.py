"""Generation speed: measured for each model, and estimated from the kind of model before the first generation."""

from __future__ import annotations

import statistics
import threading
from collections import deque

from omni.images.profiles import Profile

KEPT = 20
ESTIMATED_S = {"distilled": 1.5, "standard": 15.0}
"""Seconds for an image of 1024 × 1024 with the profile's number of steps on a suitable GPU: 1 to 2 s for distilled
models, 5 to 30 s for all others."""


class SpeedBook:
    """Measured megapixel-steps per second of each model. Any thread may use it."""

    def __init__(self) -> None:
        self._measured: dict[str, deque[float]] = {}
        self._warm: set[str] = set()
        self._lock = threading.Lock()

    def learn(self, model: str, megapixel_steps: float, seconds: float) -> None:
        """Adds a generation. The first one of a model is dropped once others follow: it includes the warm-up."""
        with self._lock:
            speeds = self._measured.setdefault(model, deque(maxlen=KEPT))
            if model not in self._warm and len(speeds) == 1:
                speeds.clear()
                self._warm.add(model)
            speeds.append(megapixel_steps / max(seconds, 1e-3))

    def measured(self, model: str) -> tuple[float, int] | None:
        """The median speed in megapixel-steps per second, and the number of generations; `None` before the first."""
        with self._lock:
            speeds = self._measured.get(model)
            return (statistics.median(speeds), len(speeds)) if speeds else None


def estimated_s(megapixels: float, steps: int, profile: Profile) -> float:
    """Estimated seconds for an image, proportional to pixels and steps."""
    kind_s = ESTIMATED_S.get(profile.type, ESTIMATED_S["standard"])
    return kind_s * (megapixels / (1024 * 1024 / 1e6)) * (steps / profile.default_steps)
