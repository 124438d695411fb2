"""How fast a server generates: learnt from what it has made here, guessed from the kind of model until then."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from typing import Protocol

from omni.profiles import Profile

KEPT = 20
GUESSED_S = {"distilled": 1.5, "standard": 15.0}
"""Seconds for a picture of 1024 × 1024 at the profile's own number of steps, on a GPU that suits the model: the plan's
1 to 2 s for distilled models, and the middle of its 5 to 30 s for all others."""


class Work(Protocol):
    """What a server was asked to make: by which model, and how much work that is."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def megapixel_steps(self) -> float:
        """Millions of pixels times steps, over all frames."""


class SpeedBook:
    """Megapixel-steps a second of each model, as measured here. Any thread may use it."""

    def __init__(self) -> None:
        self._measured: dict[str, deque[float]] = {}
        self._warm: set[str] = set()
        self._lock = threading.Lock()

    def learn(self, parameters: Work, seconds: float) -> None:
        """Notes one generation. A model's first is left out where others follow: servers compile and warm up then."""
        with self._lock:
            speeds = self._measured.setdefault(parameters.model, deque(maxlen=KEPT))
            if parameters.model not in self._warm and len(speeds) == 1:
                speeds.clear()
                self._warm.add(parameters.model)
            speeds.append(parameters.megapixel_steps / max(seconds, 1e-3))

    def measured(self, model: str) -> tuple[float, int] | None:
        """The median speed in megapixel-steps a second, and from how many generations; None before the first."""
        with self._lock:
            speeds = self._measured.get(model)
            return (statistics.median(speeds), len(speeds)) if speeds else None


def guessed_s(megapixels: float, steps: int, profile: Profile) -> float:
    """Seconds for one picture, from the kind of model alone: in proportion to pixels and steps."""
    kind_s = GUESSED_S.get(profile.type, GUESSED_S["standard"])
    return kind_s * (megapixels / (1024 * 1024 / 1e6)) * (steps / profile.default_steps)
