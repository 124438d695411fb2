"""Listens on a socket and runs uvicorn on its own thread; the main thread handles signals."""

from __future__ import annotations

import functools
import signal
import socket
import sys
import threading

import uvicorn

from mcp_protocol.http.access import is_loopback
from mcp_protocol.http.admission import Admission, max_connections
from mcp_protocol.http.app import HttpApp
from mcp_protocol.http.http_connection import HttpConnection
from mcp_protocol.http.metrics import Metrics
from mcp_protocol.log import log, log_failure
from mcp_protocol.server import Server
from settings.server import HttpSettings

STOP_S = 0.4
"""Time for unfinished responses after a signal; clients kill a server 2 s after it."""
BACKLOG = 128


class CannotListen(Exception):
    """The server cannot listen on the address of the settings; `str()` says what to do."""


def listen(settings: HttpSettings) -> socket.socket:
    """A listening socket; raises `CannotListen`, also when other machines could connect and no token is required."""
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError):
        raise CannotListen(f"{settings.host} is not an address of this machine (VLLM_HTTP_HOST, --host).") from None
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    if not settings.tokens and not is_loopback(str(address[0])):
        raise CannotListen(
            f"Other machines could connect to {where}, and no token is required. Set VLLM_HTTP_TOKENS to one or more "
            "secret tokens, separated by commas, or listen on 127.0.0.1."
        )
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":  # where SO_REUSEADDR would let another program take the port over
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"The server cannot listen on {where}: {error.strerror}.") from None
    return listener


class HttpService:
    """The HTTP transport of a server.

    Arguments:
        server: handles the messages.
        settings: where to listen, tokens and limits.
        listener: a socket of `listen`; made from the settings if None.
        is_healthy, metrics: see `HttpApp`.

    Raises: `CannotListen`.
    """

    def __init__(
        self,
        server: Server,
        settings: HttpSettings,
        listener: socket.socket | None = None,
        *,
        is_healthy: bool = True,
        metrics: Metrics | None = None,
    ) -> None:
        self._listener = listen(settings) if listener is None else listener
        name = self._listener.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        self.app = HttpApp(server, settings, is_loopback=is_loopback(name[0]), is_healthy=is_healthy, metrics=metrics)
        admission = Admission(max(1, len(settings.tokens)), settings.proxies, max_connections())
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
        """The URL of the MCP endpoint."""
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/mcp"

    def start(self) -> None:
        """Starts serving."""
        self._thread.start()
        log("INFO", f"listening at {self.url}")

    def stop(self) -> None:
        """Ends all streams and waits at most `STOP_S` for unfinished responses."""
        self.app.close()
        self._uvicorn.should_exit = True
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._listener])
        except BaseException:
            log_failure("the HTTP transport")
        if not self._uvicorn.should_exit:  # end the process, so that a supervisor restarts it
            log("ERROR", "the HTTP transport ended unexpectedly")
            signal.raise_signal(signal.SIGTERM)
