"""What handlers work with, made when first needed: importing this module costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.interface import Engine
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
        """The conversations held so far; their file, if they have one, is opened when the first is asked for."""
        from engine.sessions import SessionStore

        settings = self.settings.sessions
        if settings.session_db is None:
            return SessionStore(settings)
        from engine.session_storage import SessionStorage

        return SessionStore(settings, keeper=SessionStorage(settings.session_db, settings.max_sessions))

    @cached_property
    def images(self) -> ImageReader:
        """Reads pictures from wherever a caller may name them."""
        from media.image import ImageReader

        return ImageReader(self.settings.media)

    def preload(self, enter_phase: Callable[[str | None], None]) -> None:
        """Loads the model before the first call asks for it."""
        self.engine.load(enter_phase)
        enter_phase(None)

    def close(self) -> None:
        """Ends the engine and every process it started, and closes the sessions' file, if they were ever made."""
        if "engine" in self.__dict__:
            self.engine.close()
        if "sessions" in self.__dict__:
            self.sessions.close()
