"""The server over HTTP: what the settings tell the transport, and what is measured of the engine behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from engine.interface import EngineState
from mcp_protocol.http.metrics import Metrics, Sample
from mcp_protocol.http.options import HttpOptions
from mcp_protocol.http.service import CannotListen, HttpService, listen

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.server import Server
    from settings import Settings

WRONG_SETTING = 2
"""The exit status where the settings do not let the server listen."""


class HttpFront:
    """Listens at once, and answers from `start` on.

    Ends the process where it cannot listen, or where a setting of the transport is wrong: a default in its place might
    let in whom the setting was to keep out.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        http = settings.http
        problems = [problem for problem in settings.problems if "VLLM_HTTP_" in problem]
        if problems:
            _leave("\n".join(problems))
        self._options = HttpOptions(
            host=http.host,
            port=http.port,
            tokens=http.tokens,
            allowed_hosts=http.allowed_hosts,
            allowed_origins=http.allowed_origins,
            proxies=http.proxies,
            sse=http.transport == "sse",
            max_body_bytes=settings.server.max_line_bytes,
            max_sessions=http.max_sessions,
            session_idle_s=http.session_idle_s,
        )
        try:
            self._listener = listen(self._options)
        except CannotListen as error:
            _leave(str(error))
        self._metrics = Metrics()
        self.observe = self._metrics.call_ended

    def start(self, server: Server, services: Services, wake: Callable[[], None]) -> Callable[[], None]:
        """Answers requests, and preloads the model where that is set; returns what ends it all."""

        def samples() -> Iterator[Sample]:
            yield Sample("queue_length", "gauge", "Calls that wait for their turn.", server.queue.n_waiting)
            yield Sample("sessions", "gauge", "Clients with a session.", service.app.n_sessions)
            yield from _engine_samples(services)

        service = HttpService(
            server,
            self._options,
            self._listener,
            wake=wake,
            healthy=lambda: not self._settings.problems,
            metrics=self._metrics,
            samples=samples,
        )
        service.start()
        server.start()

        def close() -> None:
            service.stop()
            services.close()

        return close


def _engine_samples(services: Services) -> Iterator[Sample]:
    tokens = services.token_counts()
    yield Sample("prompt_tokens_total", "counter", "Tokens of prompts that were answered.", tokens.prompt)
    yield Sample("generated_tokens_total", "counter", "Tokens of answers.", tokens.completion)
    state = services.engine_state()
    for name in EngineState:
        meaning = "Where the model is: 1 for its state, 0 for all others."
        yield Sample("engine_state", "gauge", meaning, int(name is state), {"state": name})


def _leave(text: str) -> NoReturn:
    print(f"vllm_server.py: {text}", file=sys.stderr, flush=True)
    sys.exit(WRONG_SETTING)
