"""What handlers work with, made when first needed: importing this module costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

if TYPE_CHECKING:
    from engine.idle import IdleTimeout
    from engine.interface import Engine
    from engine.memory import MemoryUse
    from engine.sessions import SessionStore
    from handlers.files import ResourceRoot
    from mcp_protocol.catalogues import Catalogues
    from mcp_protocol.tools import Toolbox
    from media.image import ImageReader
    from settings import Settings

T = TypeVar("T")


class made_once(cached_property[T]):
    """A property that the first thread to ask makes for all; `cached_property` alone may let two threads make two."""

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> made_once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> made_once[T] | T:
        if instance is None:
            return self
        with instance.lock:
            made: T = super().__get__(instance, owner)
            return made


class PublishedSession(msgspec.Struct, frozen=True):
    """What is told of a session without asking its owner; times are seconds since 1970."""

    id: str
    created_s: float
    updated_s: float


class Services:
    """The engine, the sessions and the pictures behind the tools.

    The worker thread owns them all; the main thread may ask the engine for its status, and see of the sessions what
    was published. `resource_roots` are the folders whose files are resources: a tool that writes files adds its own.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self.resource_roots: list[ResourceRoot] = []
        self.published_sessions: tuple[PublishedSession, ...] = ()
        self.published_store_problem: str | None = None

    @made_once
    def engine(self) -> Engine:
        """The vLLM engine of this process; nothing is loaded before it is asked to."""
        from engine.local import LocalEngine

        return LocalEngine(self.settings.engine, log_level=self.settings.server.log_level)

    @made_once
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

    def publish_sessions(self) -> None:
        """Lets all threads see which sessions there are now; the worker does it before it answers a call that changed
        them."""
        self.published_sessions = tuple(
            PublishedSession(session.id, session.created, session.updated) for session in self.sessions.list()
        )
        self.published_store_problem = self.sessions.problem()

    def toolbox(self) -> Toolbox:
        """The tools: 50 ms that the answer to `initialize` does without."""
        from handlers.catalog import toolbox

        return toolbox(self)

    def catalogues(self) -> Catalogues:
        """The resources and prompts, imported with the first request about them."""
        from handlers.resources import catalogues

        return catalogues(self)

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
        """Ends the engine and every process it started, and closes the sessions' file, if they were ever made."""
        if "engine" in self.__dict__:
            self.engine.close()
        if "sessions" in self.__dict__:
            self.sessions.close()
