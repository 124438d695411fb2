"""What handlers work with, made when first needed: importing this module costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.idle import IdleTimeout
    from engine.interface import Engine
    from engine.memory import MemoryUse
    from engine.sessions import SessionStore
    from media.image import ImageReader
    from settings import Settings


class Services:
    """The engine, the sessions and the pictures behind the tools; the worker thread owns them all."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def engine(self) -> Engine:
        """The vLLM engine of this process; nothing is loaded before it is asked to."""
        from engine.local import LocalEngine

        return LocalEngine(self.settings.engine, log_level=self.settings.server.log_level)

    @cached_property
    def sessions(self) -> SessionStore:
        """The conversations held so far."""
        from engine.sessions import SessionStore

        return SessionStore(self.settings.sessions)

    @cached_property
    def images(self) -> ImageReader:
        """Reads pictures from wherever a caller may name them."""
        from media.image import ImageReader

        return ImageReader(self.settings.media)

    @cached_property
    def idle_timeout(self) -> IdleTimeout:
        """When a model that nobody uses gives its memory back."""
        from engine.idle import IdleTimeout

        return IdleTimeout(self.settings.engine.idle_timeout_s)

    def idle_due_s(self) -> float | None:
        """The moment (`time.monotonic()`) at which the model was idle for too long; asked after every call."""
        return self.idle_timeout.due_s(self.engine.status()) if "engine" in self.__dict__ else None

    def give_back_memory(self, enter_phase: Callable[[str | None], None]) -> None:
        """Offloads or releases the model because nobody uses it."""
        self.idle_timeout.give_back(self.engine)

    def memory_use(self) -> MemoryUse:
        """What the server and its engine hold of this machine's memory now, as the system and the driver report it."""
        from engine.memory import memory_use

        return memory_use(self.engine.process_ids())

    def preload(self, enter_phase: Callable[[str | None], None]) -> None:
        """Loads the model before the first call asks for it."""
        self.engine.load(enter_phase)
        enter_phase(None)

    def close(self) -> None:
        """Ends the engine, if one was ever made, and every process it started."""
        if "engine" in self.__dict__:
            self.engine.close()
