"""When a loaded model that nobody uses gives its memory back, and how."""

from __future__ import annotations

import logging

from engine.interface import Engine, EngineState, EngineStatus

log = logging.getLogger("engine")


class IdleTimeout:
    """The seconds after which an unused model is offloaded, or released where the backend cannot offload.

    Attributes: `timeout_s`, 0 for never; it may be changed at any time and holds from the model's last use on.
    """

    def __init__(self, timeout_s: int) -> None:
        self.timeout_s = timeout_s

    def due_s(self, status: EngineStatus) -> float | None:
        """The moment (`time.monotonic()`) to give the memory back, `None` while there is none to give."""
        if not self.timeout_s or status.state is not EngineState.READY or status.last_used_s is None:
            return None
        return status.last_used_s + self.timeout_s

    def give_back(self, engine: Engine) -> None:
        """Takes the model off the GPU, or drops it."""
        offloads = bool(engine.status().can_offload)
        log.info("The model was idle for %s s and is %s.", self.timeout_s, "offloaded" if offloads else "released")
        if offloads:
            engine.offload()
        else:
            engine.release()
