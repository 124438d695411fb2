"""A server over HTTP in this process, with the tools of the other tests of the protocol behind it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx

from mcp_protocol.http.metrics import Metrics
from mcp_protocol.http.options import HttpOptions
from mcp_protocol.http.service import HttpService
from mcp_protocol.server import Server
from mcp_protocol.tools import Toolbox
from tests.mcp_results import Json, envelope
from tests.unit.mcp_protocol.host import INFO, TOOLS, WAIT_S, Gates
from tests.unit.mcp_protocol.shelf import Shelf

BOTH = {"accept": "application/json, text/event-stream"}
CLIENT = {"capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}


class Web:
    """A server on a free port of this machine, and a client of HTTP to it."""

    def __init__(self, **options: Any) -> None:
        self.gates = Gates()
        self.shelf = Shelf(one="1")
        self.metrics = Metrics()
        self.server = Server(INFO, self._toolbox, self.shelf.catalogues, observe=self.metrics.call_ended)
        self.service = HttpService(self.server, HttpOptions(port=0, **options), metrics=self.metrics)
        self.service.start()
        self.http = httpx.Client(base_url=self.service.url.removesuffix("/mcp"), timeout=WAIT_S)

    def __enter__(self) -> Web:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.gates.go_on.set()
        self.http.close()
        self.service.stop()

    def _toolbox(self) -> Toolbox:
        return Toolbox(TOOLS, self.gates, lambda error: "Something went wrong.")

    def post(self, message: Any, headers: Mapping[str, str] | None = None, path: str = "/mcp") -> httpx.Response:
        """Posts one message as clients do."""
        return self.http.post(path, json=message, headers={**BOTH, **(headers or {})})

    @contextmanager
    def stream(self, message: Any, headers: Mapping[str, str] | None = None) -> Iterator[Events]:
        """Posts one message whose answer is a stream."""
        with self.http.stream("POST", "/mcp", json=message, headers={**BOTH, **(headers or {})}) as response:
            yield Events(response)

    def initialize(self, version: str = "2025-11-25", **headers: str) -> dict[str, str]:
        """Begins a session; returns the headers of its further requests."""
        answer = self.post(request("initialize", {"protocolVersion": version, **CLIENT}), headers)
        assert answer.json()["result"]["protocolVersion"] == version
        session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": version, **headers}
        assert self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session).status_code == 202
        return session

    def leave_while_it_runs(self, message: Any, headers: Mapping[str, str]) -> None:
        """Posts a call of `wait` and closes the connection as soon as it runs."""
        body = json.dumps(message).encode()
        given = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        with socket.create_connection(self.service.address) as connection:
            connection.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
            assert self.gates.running.wait(WAIT_S)

    def in_background(self, message: Any, headers: Mapping[str, str] | None = None) -> Background:
        """Posts one message on a thread of its own."""
        return Background(self, message, headers)


class Background(threading.Thread):
    """A request that is answered later."""

    def __init__(self, web: Web, message: Any, headers: Mapping[str, str] | None) -> None:
        super().__init__(daemon=True)
        self._web, self._message, self._headers = web, message, headers
        self._response: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        """Waits for the answer."""
        self._response = self._web.post(self._message, self._headers)

    def response(self) -> httpx.Response:
        """The answer."""
        self.join(WAIT_S)
        assert self._response is not None
        return self._response


class Events:
    """The messages of a stream, one by one."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        self.response = response
        self._lines = response.iter_lines()

    def next(self) -> Json:
        """The next message."""
        return next(self)

    def __next__(self) -> Json:
        for line in self._lines:
            if line.startswith("data: "):
                message: Json = json.loads(line.removeprefix("data: "))
                return message
        raise StopIteration

    def __iter__(self) -> Events:
        return self


def request(method: str, params: Json | None = None, request_id: Any = 1) -> Json:
    """A request."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}


def call(tool: str, arguments: Json | None = None, request_id: Any = 1, **meta: Any) -> Json:
    """A `tools/call` of a legacy revision."""
    params: Json = {"name": tool, "arguments": arguments or {}}
    return request("tools/call", {**params, "_meta": meta} if meta else params, request_id)


def modern(method: str, params: Json | None = None, request_id: Any = 1, **meta: Any) -> Json:
    """A request that stands alone."""
    return request(method, {**(params or {}), "_meta": envelope(**meta)}, request_id)


def headers_of(message: Json) -> dict[str, str]:
    """The headers that a modern request comes with."""
    params = message["params"]
    name = params.get("name", params.get("uri"))
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": message["method"]}
    return headers if name is None else {**headers, "mcp-name": name}
