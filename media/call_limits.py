"""When reading media for a call has to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from media.errors import MediaCancelled
from sandbox.cancellation import Cancellation


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What ends the reading of media early.

    Arguments:
        cancellation: the call's; when set, downloads and decoding stop.
        deadline_s: the `time.monotonic()` value at which the call's time is up; `None` for no limit.
    """

    cancellation: Cancellation = field(default_factory=Cancellation)
    deadline_s: float | None = None

    def left_s(self, timeout_s: float) -> float:
        """Seconds left for work that may itself take `timeout_s`; not below 0."""
        if self.deadline_s is None:
            return timeout_s
        return max(0.0, min(timeout_s, self.deadline_s - time.monotonic()))

    def check(self) -> None:
        """Raises `MediaCancelled` when the call was cancelled or its time is up."""
        if self.cancellation.is_set() or self.left_s(1.0) == 0:
            raise MediaCancelled("The call ended before the media were read.")


NO_LIMITS = CallLimits()
