"""Listens on a socket and runs the application there, on a thread of its own: the main thread keeps the signals."""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable

import uvicorn

from mcp_protocol.http.admission import Admission, most_connections
from mcp_protocol.http.app import HttpApp
from mcp_protocol.http.guard import is_loopback
from mcp_protocol.http.metrics import Metrics, Sample
from mcp_protocol.http.options import HttpOptions
from mcp_protocol.http.wire import HttpConnection
from mcp_protocol.log import log, log_failure
from mcp_protocol.server import Server

STOP_S = 0.4
"""What answers get to leave after a signal; clients kill a server 2 s after it."""
BACKLOG = 128


class CannotListen(Exception):
    """The server cannot listen where it is told to; `str()` says what to do."""


def listen(options: HttpOptions) -> socket.socket:
    """A listening socket.

    Raises: `CannotListen`, also where others than this machine could connect and no token is asked for.
    """
    where = f"{options.host}:{options.port}"
    try:
        found = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError):
        raise CannotListen(f"{options.host} is no address of this machine (VLLM_HTTP_HOST, --host).") from None
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    if not options.tokens and not is_loopback(str(address[0])):
        raise CannotListen(
            f"Others could connect to {where}, and no token is asked for. Set VLLM_HTTP_TOKENS to one or more secret "
            "tokens, separated by commas, or listen on 127.0.0.1."
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"The server cannot listen on {where}: {error.strerror}.") from None
    return listener


class HttpService:
    """A server's application on its socket.

    Arguments: the server; the options; a socket of `listen`, made now where there is none; the rest as for `HttpApp`.

    Raises: `CannotListen`.
    """

    def __init__(
        self,
        server: Server,
        options: HttpOptions,
        listener: socket.socket | None = None,
        *,
        wake: Callable[[], None] = lambda: None,
        healthy: Callable[[], bool] = lambda: True,
        metrics: Metrics | None = None,
        samples: Callable[[], Iterable[Sample]] = lambda: (),
    ) -> None:
        self._listener = listen(options) if listener is None else listener
        name = self._listener.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        self.app = HttpApp(
            server,
            options,
            is_loopback=is_loopback(name[0]),
            wake=wake,
            healthy=healthy,
            metrics=metrics,
            samples=samples,
        )
        admission = Admission(max(1, len(options.tokens)), options.proxies, most_connections())
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self.app,
                http=functools.partial(HttpConnection, admission),  # type: ignore[arg-type]
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Where clients of the protocol connect."""
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/mcp"

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()
        log("INFO", f"listening at {self.url}")

    def stop(self) -> None:
        """Ends all streams and lets answers leave that are on their way, at most for a moment."""
        self.app.close()
        self._uvicorn.should_exit = True
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._listener])
        except BaseException:
            log_failure("the transport over HTTP")
        if not self._uvicorn.should_exit:  # a server that nobody can reach is to be started again
            log("ERROR", "the transport over HTTP ended by itself")
            os.kill(os.getpid(), signal.SIGTERM)
