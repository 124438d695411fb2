"""Until when whoever asks for media wants them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from media.errors import MediaCancelled


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What ends reading before it is done: `cancelled`, asked from the thread that reads, and the moment `deadline_s`
    of `time.monotonic()`."""

    cancelled: Callable[[], bool] = _never
    deadline_s: float | None = None

    def left_s(self, timeout_s: float) -> float:
        """Seconds that something may take whose own limit is `timeout_s`; not below 0."""
        if self.deadline_s is None:
            return timeout_s
        return max(0.0, min(timeout_s, self.deadline_s - time.monotonic()))

    def check(self) -> None:
        """Raises `MediaCancelled` where nobody wants the result any more."""
        if self.cancelled() or self.left_s(1.0) == 0:
            raise MediaCancelled("The call has ended before this was read.")


NO_LIMITS = CallLimits()
