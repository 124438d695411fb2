"""Frees the memory of loaded models that are not used."""

from __future__ import annotations

import logging
import threading
import time

from engine.interface import Engine, EngineState, EngineStatus
from engine.models import Models

log = logging.getLogger("engine")


class IdleTimeout:
    """The time after which an unused model is offloaded, or released where the backend cannot offload.

    Attributes: `timeout_s`, counted from the model's last use, 0 for never; it may be changed at any time.
    """

    def __init__(self, timeout_s: int) -> None:
        self.timeout_s = timeout_s

    def due_s(self, status: EngineStatus) -> float | None:
        """The `time.monotonic()` value at which to free the memory, `None` while there is none to free."""
        if not self.timeout_s or status.state is not EngineState.READY or status.last_used_s is None:
            return None
        return status.last_used_s + self.timeout_s

    def give_back(self, engine: Engine) -> None:
        """Offloads or releases the model."""
        status = engine.status()
        offloads, name = bool(status.can_offload), status.model_name
        log.info("%s was idle for %s s and is %s.", name, self.timeout_s, "offloaded" if offloads else "released")
        if offloads:
            engine.offload()
        else:
            engine.release()


class IdleTimeouts:
    """The idle timeouts of several models, each counted from its own model's last use. Any thread may use it.

    Arguments:
        models: the models.
        timeout_s: of each, until `of(name).timeout_s` is changed.
    """

    def __init__(self, models: Models, timeout_s: int) -> None:
        self._models = models
        self._timeout_s = timeout_s
        self._timeouts: dict[str, IdleTimeout] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> IdleTimeout:
        """The timeout of a model."""
        with self._lock:
            return self._timeouts.setdefault(name, IdleTimeout(self._timeout_s))

    def due_s(self) -> dict[str, float]:
        """When the timeout ends (`time.monotonic()`) of each model that is in memory.

        A timeout begins at the end of a use. For a model in use, this is the earliest time possible.
        """
        found: dict[str, float] = {}
        for name, engine in self._models.engines().items():
            timeout = self.of(name)
            time_s = timeout.due_s(engine.status())
            if time_s is not None:
                in_use = self._models.n_users(name) > 0
                found[name] = time.monotonic() + timeout.timeout_s if in_use else time_s
        return found

    def give_back(self) -> None:
        """Offloads or releases each model whose timeout has ended, but none that is in use."""
        engines, now_s = self._models.engines(), time.monotonic()
        for name in [name for name, time_s in self.due_s().items() if time_s <= now_s]:
            with self._models.unused(name) as is_unused:
                if is_unused:
                    self.of(name).give_back(engines[name])
