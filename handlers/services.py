"""What handlers work with, made when first needed: importing this module costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from mcp_protocol.connection import OWNER_SHARE
from sandbox.budget import ByteBudget, default_bytes

if TYPE_CHECKING:
    from engine.idle import IdleTimeout
    from engine.interface import Engine, EngineState
    from engine.memory import MemoryUse
    from engine.providers import Providers
    from engine.sessions import SessionStore
    from handlers.files import ResourceRoot
    from http_client.outgoing import Outgoing
    from mcp_protocol.catalogues import Catalogues
    from mcp_protocol.tools import Toolbox
    from media.decoder import Decoder
    from media.image import ImageReader
    from media.recordings import AudioReader, VideoReader
    from media.text import TextReader
    from omni.files import OutputFolder
    from omni.generate import ImageMaker
    from omni.jobs import Jobs
    from omni.video import VideoMaker
    from sandbox.pool import Sandbox
    from settings import Settings
    from settings.server import HttpSettings

T = TypeVar("T")

MESSAGE_SHARE = 4
"""Waiting calls and unfinished bodies take at most this part of the budget, a quarter: the rest is left for what a call
needs that runs."""


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


class TokenCounts(msgspec.Struct, frozen=True):
    """How many tokens all answers so far took, in their prompts and in themselves."""

    prompt: int
    completion: int


def _message_budgets(whole: ByteBudget, http: HttpSettings) -> list[ByteBudget]:
    messages = whole.part(MESSAGE_SHARE)
    n_owners = len(http.tokens) if http.transport != "stdio" else 1
    return [messages] if n_owners <= 1 else [messages.part(OWNER_SHARE) for _ in range(n_owners)]


class Services:
    """The engine, the sessions and the pictures behind the tools.

    Any worker thread may use them; the main thread may ask the engine for its status, and see of the sessions what was
    published. `budget` bounds the bytes that all of them hold for callers, `message_budgets` those of messages, one for
    each owner of a token.

    Arguments: the settings; a pipe in which a byte lies when the process is to end, -1 for none.
    """

    def __init__(self, settings: Settings, ending_fd: int = -1) -> None:
        self.settings = settings
        self._ending_fd = ending_fd
        self.budget = ByteBudget(settings.server.max_held_bytes or default_bytes())
        self.message_budgets = _message_budgets(self.budget, settings.http)
        self.lock = threading.RLock()
        self._publishing = threading.Lock()
        self.published_sessions: tuple[PublishedSession, ...] = ()
        self.published_store_problem: str | None = None

    @made_once
    def outgoing(self) -> Outgoing:
        """Whom requests to other servers trust, and by which way they go."""
        from http_client.outgoing import Outgoing

        return Outgoing(self.settings.network)

    @made_once
    def engine(self) -> Engine:
        """The vLLM engine of this process, or the server that has the model; nothing is loaded or asked before it is
        wanted. Over HTTP, where somebody may watch, its tokens are counted."""
        if self.settings.http.transport == "stdio":
            return self._bare_engine()
        from engine.counting import CountedEngine

        return CountedEngine(self._bare_engine())

    def _bare_engine(self) -> Engine:
        if self.settings.engine.base_url is not None:
            from engine.remote import RemoteEngine

            return RemoteEngine(self.settings.engine, self.outgoing, n_callers=self.settings.server.max_concurrent)
        from engine.local import LocalEngine

        server = self.settings.server
        return LocalEngine(
            self.settings.engine,
            log_level=server.log_level,
            n_callers=server.max_concurrent,
            ending_fd=self._ending_fd,
            sandbox=self.sandbox,
        )

    @made_once
    def sessions(self) -> SessionStore:
        """The conversations held so far; their file, if they have one, is opened when the first is asked for."""
        from engine.sessions import SessionStore

        settings = self.settings.sessions
        if settings.session_db is None:
            return SessionStore(settings)
        from engine.session_storage import SessionStorage

        return SessionStore(settings, keeper=SessionStorage(settings.session_db, settings.max_sessions))

    @made_once
    def providers(self) -> Providers:
        """Services with more models; nobody is asked for anything before the first call."""
        from engine.arguments import is_bundled
        from engine.providers import Providers
        from settings.providers import remote_providers

        settings = self.settings
        bundled = is_bundled(settings.engine)
        found = remote_providers(settings.engine, bundled, settings.providers, settings.more_providers)
        return Providers(found, self.outgoing, n_callers=settings.server.max_concurrent)

    @made_once
    def jobs(self) -> Jobs:
        """The generations that go on while other calls are answered."""
        from omni.jobs import Jobs

        return Jobs(self.settings.omni.job_ttl_s)

    @made_once
    def image_maker(self) -> ImageMaker:
        """Makes pictures with the vLLM-Omni server; nobody is asked for anything before the first call."""
        from omni.client import OmniClient
        from omni.generate import ImageMaker
        from omni.profiles import ProfileBook

        settings = self.settings.omni
        client = OmniClient(settings.url, settings.timeout_s, settings.api_key, self.outgoing)
        return ImageMaker(client, ProfileBook(settings.profiles), self.output_folder, self.jobs, self.decoder)

    @made_once
    def video_maker(self) -> VideoMaker:
        """Makes talking videos with vLLM-Omni servers; nobody is asked for anything before the first call."""
        from omni.video import VideoMaker
        from omni.video_servers import VideoServers

        settings = self.settings.omni
        servers = VideoServers(
            settings.video_url or settings.url,
            settings.video_models,
            settings.video_timeout_s,
            settings.api_key,
            self.outgoing,
        )
        return VideoMaker(servers, self.output_folder, self.jobs, settings.video_timeout_s, self.decoder)

    @made_once
    def output_folder(self) -> OutputFolder:
        """Where generated files go."""
        from omni.files import OutputFolder

        return OutputFolder(self.settings.omni.output_dir, int(self.settings.omni.file_mode, 8))

    @made_once
    def resource_roots(self) -> list[ResourceRoot]:
        """The folders whose files are resources, as far as the server wrote them."""
        from handlers.files import ResourceRoot
        from omni.files import is_ours

        return [ResourceRoot(self.output_folder.path, "Generated by this server.", is_ours)]

    @made_once
    def sandbox(self) -> Sandbox:
        """The children that work on bytes from outside; none is started before the first of them is needed."""
        from sandbox.pool import Sandbox

        return Sandbox()

    @made_once
    def decoder(self) -> Decoder:
        """Makes pictures, sound and film of bytes from outside."""
        from media.decoder import Decoder

        return Decoder(self.sandbox)

    @made_once
    def images(self) -> ImageReader:
        """Reads pictures from wherever a caller may name them."""
        from media.image import ImageReader

        return ImageReader(self.settings.media, self.decoder, tls_context=self.outgoing.tls_context)

    @made_once
    def audio(self) -> AudioReader:
        """Reads sound likewise."""
        from media.recordings import AudioReader

        return AudioReader(self.settings.media, self.decoder, tls_context=self.outgoing.tls_context)

    @made_once
    def videos(self) -> VideoReader:
        """Reads clips likewise."""
        from media.recordings import VideoReader

        return VideoReader(self.settings.media, self.decoder, tls_context=self.outgoing.tls_context)

    @made_once
    def texts(self) -> TextReader:
        """Reads text files, only from folders that the settings name."""
        from media.text import TextReader

        return TextReader(self.settings.media.allowed_dirs, self.settings.providers.max_text_bytes)

    def publish_sessions(self) -> None:
        """Lets all threads see which sessions there are now; a worker does it before it answers a call that changed
        them."""
        with self._publishing:
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

    @made_once
    def idle_timeout(self) -> IdleTimeout:
        """When a model that nobody uses gives its memory back."""
        from engine.idle import IdleTimeout

        return IdleTimeout(self.settings.engine.idle_timeout_s)

    def idle_due_s(self) -> float | None:
        """The moment (`time.monotonic()`) at which the model was idle for too long; asked after every call.

        Never raises: with the worker, all calls to come would be lost.
        """
        if "engine" not in self.__dict__:
            return None
        try:
            return self.idle_timeout.due_s(self.engine.status())
        except Exception:  # its module could not be imported: no memory, or too many open files
            from mcp_protocol import log

            log.log_failure("the idle timeout")
            return None

    def give_back_memory(self, enter_phase: Callable[[str | None], None]) -> None:
        """Offloads or releases the model because nobody uses it."""
        self._forget_pictures()
        self._rest_sandbox()
        self.idle_timeout.give_back(self.engine)

    def release_model(self) -> None:
        """Drops the model, the pictures that were kept in case it is asked about them again, and idle children."""
        self._forget_pictures()
        self._rest_sandbox()
        self.engine.release()

    def _forget_pictures(self) -> None:
        if "images" in self.__dict__:
            self.images.forget()

    def _rest_sandbox(self) -> None:
        if "sandbox" in self.__dict__:
            self.sandbox.rest()

    def engine_state(self) -> EngineState:
        """Where the model is; safe from any thread."""
        from engine.interface import EngineState

        return self.engine.status().state if "engine" in self.__dict__ else EngineState.UNLOADED

    def token_counts(self) -> TokenCounts:
        """The tokens so far, as far as they are counted; safe from any thread."""
        counted = self.__dict__.get("engine")
        return TokenCounts(getattr(counted, "prompt_tokens", 0), getattr(counted, "completion_tokens", 0))

    def memory_use(self) -> MemoryUse:
        """What the server and its engine hold of this machine's memory now, as the system and the driver report it."""
        from engine.memory import memory_use

        return memory_use(self.engine.process_ids())

    def preload(self, enter_phase: Callable[[str | None], None]) -> None:
        """Loads the model before the first call asks for it."""
        self.engine.load(enter_phase)
        enter_phase(None)

    def close(self) -> None:
        """Breaks off all jobs, ends the engine and every process it started, and closes the sessions' file, as far as
        any of them was ever made."""
        if "jobs" in self.__dict__:
            self.jobs.close()
        if "sandbox" in self.__dict__:
            self.sandbox.close()
        if "engine" in self.__dict__:
            self.engine.close()
        if "providers" in self.__dict__:
            self.providers.close()
        if "sessions" in self.__dict__:
            self.sessions.close()
