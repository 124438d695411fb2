"""Starts the HTTP transport from the settings, or ends the process if they are wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

from mcp_protocol.http.metrics import Metrics, Sample
from mcp_protocol.http.service import CannotListen, HttpService, listen
from settings import program

if TYPE_CHECKING:
    from mcp_protocol.server import Server
    from settings.server import HttpSettings

WRONG_SETTING = 2
"""Exit status when the settings do not allow the server to listen."""


class MeasuredServices(Protocol):
    """What the tools use: `samples` are its values for `/metrics`."""

    def samples(self) -> Iterable[Sample]: ...
    def close(self) -> None: ...


class HttpFront:
    """Listens at once, and serves from `start` on.

    Ends the process if it cannot listen, or if an HTTP setting is wrong: a default in its place might let unintended
    clients in.

    Arguments:
        settings: the HTTP settings.
        problems: errors in any setting.
    """

    def __init__(self, settings: HttpSettings, problems: Sequence[str]) -> None:
        self._is_healthy = not problems
        wrong = [problem for problem in problems if "VLLM_HTTP_" in problem]
        if wrong:
            _leave("\n".join(wrong))
        self._settings = settings
        try:
            self._listener = listen(settings)
        except CannotListen as error:
            _leave(str(error))
        self._metrics = Metrics()
        self.observe = self._metrics.call_ended

    def start(self, server: Server, services: MeasuredServices) -> Callable[[], None]:
        """Serves requests and queues the startup task; returns a function that stops the transport and the services."""

        def samples() -> Iterable[Sample]:
            yield Sample("queue_length", "gauge", "Calls that wait in the queue.", server.queue.n_waiting)
            yield Sample("sessions", "gauge", "Clients with a session.", service.app.n_sessions)
            yield from services.samples()

        self._metrics.samples = samples
        service = HttpService(
            server, self._settings, self._listener, is_healthy=self._is_healthy, metrics=self._metrics
        )
        service.start()
        server.start()

        def end() -> None:
            service.stop()
            services.close()

        return end


def _leave(text: str) -> NoReturn:
    print(f"{program()}: {text}", file=sys.stderr, flush=True)
    sys.exit(WRONG_SETTING)
