"""The services that handlers use, each created at first use: importing this module loads nothing heavy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from handlers.lazy import locked_cached_property
from handlers.published import PublishedSession, message_budgets
from sandbox.budget import ByteBudget, default_bytes

if TYPE_CHECKING:
    from engine.hardware.memory import MemoryUse
    from engine.idle import IdleTimeouts
    from engine.interface import Engine, EngineState
    from engine.models import Models
    from engine.remote.engine import RemoteEngine
    from engine.remote.providers import Providers
    from engine.sessions.store import SessionStore
    from handlers.resource_roots import ResourceRoot
    from handlers.shared_gpu.sharing import SharedGpu
    from http_client.outgoing import Outgoing
    from mcp_protocol.http.metrics import Sample
    from media.audio_video import AudioReader, VideoReader
    from media.decoder import Decoder
    from media.image import ImageReader
    from media.text import TextReader
    from omni.files.output_folder import OutputFolder
    from omni.images.generate import ImageMaker
    from omni.jobs.jobs import Jobs
    from omni.speech.generate import SpeechMaker
    from omni.video.generate import VideoMaker
    from sandbox.pool import Sandbox
    from settings import EngineSettings, Settings


class Services:
    """The engine, the sessions, the media readers and the generators behind the tools.

    Any worker thread may use them. The main thread may use the engine's status and the published sessions only.

    Arguments:
        settings: all settings.
        ending_fd: a pipe that becomes readable when the process has to end, -1 for none.

    Attributes:
        budget: limits the bytes that all services hold for callers.
        message_budgets: limit the bytes of messages, one budget per client token.
    """

    def __init__(self, settings: Settings, ending_fd: int = -1) -> None:
        self.settings = settings
        self._ending_fd = ending_fd
        self.budget = ByteBudget(settings.server.max_held_bytes or default_bytes())
        self.message_budgets = message_budgets(self.budget, settings.http)
        self.lock = threading.RLock()
        self._publishing = threading.Lock()
        self.published_sessions: tuple[PublishedSession, ...] = ()
        self.published_store_problem: str | None = None

    @locked_cached_property
    def outgoing(self) -> Outgoing:
        """Certificates and proxies for requests to other servers."""
        from http_client.outgoing import Outgoing

        return Outgoing(self.settings.network)

    @locked_cached_property
    def engine(self) -> Engine:
        """The vLLM engine of this process, or the remote server; it loads at first use.

        Over HTTP its tokens are counted, for `/metrics`.
        """
        return self._counted(self.make_engine(next(iter(self.settings.engine.by_name().values()))))

    @locked_cached_property
    def models(self) -> Models:
        """The models that calls may name; the first is the one of `engine`."""
        from engine.models import Models

        is_remote = self.settings.engine.base_url is not None
        named = list(self.settings.engine.by_name().items())
        if is_remote and self.settings.engine.is_bundled:
            named[0] = self.engine.status().model_name, named[0][1]  # the server's first model has another name

        def make(name: str) -> Engine:
            if name == models.default:
                return self.engine
            return self._counted(self.make_engine(models.settings[name], self.engine if is_remote else None))

        around_load = None if self.shared_gpu is None else self.shared_gpu.loading
        models = Models(dict(named), make, others=is_remote, around_load=around_load)
        return models

    def _counted(self, engine: Engine) -> Engine:
        if self.settings.http.transport == "stdio":
            return engine
        from engine.counting import CountedEngine

        return cast("Engine", CountedEngine(engine))

    def make_engine(self, settings: EngineSettings, beside: Engine | None = None) -> Engine:
        """A new engine: of this process, or of the remote server with the connections of another engine."""
        server = self.settings.server
        if settings.base_url is not None:
            from engine.remote.engine import RemoteEngine

            n_callers, known = server.max_concurrent, cast("RemoteEngine | None", beside)
            return RemoteEngine(settings, self.outgoing, n_callers, self.sandbox, known)
        from engine.local.engine import LocalEngine

        return LocalEngine(
            settings,
            log_level=server.log_level,
            n_callers=server.max_concurrent,
            ending_fd=self._ending_fd,
            sandbox=self.sandbox,
        )

    @locked_cached_property
    def sessions(self) -> SessionStore:
        """The chat sessions; the session file is opened at first use."""
        from engine.sessions.store import SessionStore

        settings = self.settings.sessions
        if settings.session_db is None:
            return SessionStore(settings)
        from engine.sessions.sqlite_backend import SqliteBackend

        return SessionStore(settings, backend=SqliteBackend(settings.session_db, settings.max_sessions))

    @locked_cached_property
    def providers(self) -> Providers:
        """The configured providers of models; no request is sent before the first call."""
        from engine.remote.providers import Providers
        from settings.providers import remote_providers

        settings = self.settings
        bundled = settings.engine.is_bundled
        remote = remote_providers(settings.engine, bundled, settings.providers, settings.more_providers)
        return Providers(remote, self.outgoing, n_callers=settings.server.max_concurrent)

    @locked_cached_property
    def jobs(self) -> Jobs:
        """The jobs that generate images and videos while other calls run."""
        from omni.jobs.jobs import Jobs

        return Jobs(self.settings.omni.job_ttl_s)

    @locked_cached_property
    def image_maker(self) -> ImageMaker:
        """Generates images with the vLLM-Omni server; no request is sent before the first call."""
        from omni.client import OmniClient
        from omni.images.generate import ImageMaker
        from omni.images.loras import ImageLoras
        from omni.images.profiles import ProfileBook

        settings = self.settings.omni
        client = OmniClient(settings.url, settings.timeout_s, settings.api_key, self.outgoing, self.shared_gpu)
        profiles, loras = ProfileBook(settings.profiles), ImageLoras(settings.lora_modules)
        return ImageMaker(client, profiles, self.output_folder, self.jobs, self.decoder, loras)

    @locked_cached_property
    def video_maker(self) -> VideoMaker:
        """Generates videos with vLLM-Omni servers; no request is sent before the first call."""
        from omni.video.generate import VideoMaker
        from omni.video.servers import VideoServers

        settings = self.settings.omni
        servers = VideoServers(
            settings.video_url or settings.url,
            settings.video_models,
            settings.video_timeout_s,
            settings.api_key,
            self.outgoing,
            self.shared_gpu,
        )
        return VideoMaker(servers, self.output_folder, self.jobs, settings.video_timeout_s, self.decoder)

    @locked_cached_property
    def speech_maker(self) -> SpeechMaker:
        """Generates speech with a vLLM-Omni server; no request is sent before the first call."""
        from omni.speech.generate import speech_maker

        settings, folder = self.settings.omni, self.output_folder
        return speech_maker(settings, self.outgoing, folder, self.jobs, self.decoder, self.shared_gpu)

    @locked_cached_property
    def shared_gpu(self) -> SharedGpu | None:
        """Has chat models and vLLM-Omni servers take turns on this machine's GPU; `None` where that is off."""
        if self.settings.engine.share_gpu == "off":
            return None
        from handlers.shared_gpu.sharing import SharedGpu

        return SharedGpu(self.settings, self)

    @locked_cached_property
    def output_folder(self) -> OutputFolder:
        """The folder for generated files."""
        from omni.files.output_folder import OutputFolder

        return OutputFolder(self.settings.omni.output_dir, int(self.settings.omni.file_mode, 8))

    @locked_cached_property
    def resource_roots(self) -> list[ResourceRoot]:
        """The folders whose files are resources if the server wrote them."""
        from handlers.resource_roots import ResourceRoot
        from omni.files.audio_marks import is_ours

        return [ResourceRoot(self.output_folder.path, "Generated by this server.", is_ours)]

    @locked_cached_property
    def sandbox(self) -> Sandbox:
        """The child processes that decode untrusted bytes; they start at first use."""
        from sandbox.pool import Sandbox

        return Sandbox()

    @locked_cached_property
    def decoder(self) -> Decoder:
        """Decodes untrusted images, audio and video."""
        from media.decoder import Decoder

        return Decoder(self.sandbox)

    @locked_cached_property
    def images(self) -> ImageReader:
        """Reads images from paths, URLs and base64."""
        from media.image import ImageReader

        return ImageReader(self.settings.media, self.decoder, tls_context=self.outgoing.tls_context)

    @locked_cached_property
    def audio(self) -> AudioReader:
        """Reads audio from paths and URLs."""
        from media.audio_video import AudioReader

        return AudioReader(self.settings.media, self.decoder, tls_context=self.outgoing.tls_context)

    @locked_cached_property
    def videos(self) -> VideoReader:
        """Reads videos from paths and URLs."""
        from media.audio_video import VideoReader

        return VideoReader(self.settings.media, self.decoder, tls_context=self.outgoing.tls_context)

    @locked_cached_property
    def texts(self) -> TextReader:
        """Reads text files from the folders that the settings allow."""
        from media.text import TextReader

        return TextReader(self.settings.media.allowed_dirs)

    def publish_sessions(self) -> None:
        """Updates `published_sessions`; a worker calls it before the response to a call that changed a session."""
        with self._publishing:
            self.published_sessions = tuple(
                PublishedSession(session.id, session.created, session.updated) for session in self.sessions.list()
            )
            self.published_store_problem = self.sessions.problem()

    @locked_cached_property
    def idle_timeouts(self) -> IdleTimeouts:
        """When the memory of each model is freed while it is not used."""
        from engine.idle import IdleTimeouts

        return IdleTimeouts(self.models, self.settings.engine.idle_timeout_s)

    def idle_due_s(self) -> float | None:
        """The time (`time.monotonic()`) at which the next idle timeout ends; called after every call.

        Never raises: an exception would end the worker thread.
        """
        if "models" not in self.__dict__:
            return None
        try:
            return min(self.idle_timeouts.due_s().values(), default=None)
        except Exception:  # an import failed: out of memory, or too many open files
            from mcp_protocol import log

            log.log_failure("the idle timeout")
            return None

    def give_back_memory(self, enter_phase: Callable[[str | None], None]) -> None:
        """Offloads or releases the models whose idle timeout has ended."""
        self.free_caches()
        self.idle_timeouts.give_back()

    def release_model(self, name: str) -> bool:
        """Releases a model, the cached images, and idle child processes; false if the model is in use, and stays."""
        self.free_caches()
        with self.models.unused(name) as is_unused:
            if is_unused:
                self.models.engine(name).release()
            return is_unused

    def free_caches(self) -> None:
        """Drops the cached images, and ends idle child processes."""
        if "images" in self.__dict__:
            self.images.forget()
        if "sandbox" in self.__dict__:
            self.sandbox.rest()

    def engine_state(self) -> EngineState:
        """The state of the default model's engine; safe from any thread."""
        from engine.interface import EngineState

        return self.engine.status().state if "engine" in self.__dict__ else EngineState.UNLOADED

    def samples(self) -> Iterator[Sample]:
        """The engines' part of `/metrics`; safe from any thread."""
        from handlers.model.metrics import samples

        return samples(self.models)

    def memory_use(self) -> MemoryUse:
        """The memory of the server and its engines now, as the system and the driver report it."""
        from engine.hardware.memory import memory_use

        engines = self.models.engines() if "models" in self.__dict__ else {}
        ids = [number for engine in (self.engine, *engines.values()) for number in engine.process_ids()]
        return memory_use(list(dict.fromkeys(ids)))

    def preload(self, enter_phase: Callable[[str | None], None]) -> None:
        """Loads the default model before the first call, or imports vLLM in a thread that no call waits for."""
        if self.settings.engine.preload == "import":
            if self.settings.engine.base_url is None:
                from handlers.model.preload import import_vllm_soon

                import_vllm_soon(self.settings)
            return
        with self.models.in_use(None, enter_phase):
            enter_phase(None)

    def close(self) -> None:
        """Aborts all jobs, ends the engine and all child processes, and closes the session file."""
        for name in ("jobs", "sandbox", "models", "engine", "providers", "sessions"):
            if name in self.__dict__:  # created
                getattr(self, name).close()
