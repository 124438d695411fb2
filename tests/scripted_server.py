"""Servers of HTTP that answer as their script says: what those of one API or another have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

Json = dict[str, Any]


class ScriptedRequest(BaseHTTPRequestHandler):
    """One request to a scripted server; `default_headers` go with every answer that does not say otherwise."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer
    default_headers: ClassVar[Json] = {}

    def follow_script(self, fields: Json) -> None:
        """Answers by the script of the path, or honestly."""
        with self.server.lock:
            self.note(fields)
            script = self.server.scripts.get(self.path, [])
            route = script.pop(0) if len(script) > 1 else script[0] if script else self.server.honest
        route(self, fields)

    def note(self, fields: Json) -> None:
        """Remembers what was asked; the server's lock is held."""

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answers with a body; underscores in the names of headers stand for hyphens."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **self.default_headers, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps quiet."""


class ScriptedServer(ThreadingHTTPServer):
    """`scripts` has for a path what answers its next requests, the last one for ever.

    Arguments: what a request is; the port, any free one by default.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, request: type[ScriptedRequest], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), request)
        self.scripts: dict[str, list[Callable[[Any, Json], None]]] = {}
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def honest(self, request: Any, fields: Json) -> None:
        """As a server of its kind answers.

        Raises: `NotImplementedError`, unless a server says how.
        """
        raise NotImplementedError

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on purpose here."""
