"""A client of MCP over HTTP for tests, message by message."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from tests.mcp_results import Json, envelope

WAIT_S = 240.0
"""How long a test waits for an answer, which may need the model."""
BOTH = {"accept": "application/json, text/event-stream"}
CLIENT = {"capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}


class WebClient:
    """Posts messages to a server; `url` is its address without a path."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=WAIT_S)

    def post(self, message: Any, headers: Mapping[str, str] | None = None, path: str = "/mcp") -> httpx.Response:
        """Posts one message as clients do."""
        return self.http.post(path, json=message, headers={**BOTH, **(headers or {})})

    def answer(self, message: Any, headers: Mapping[str, str] | None = None) -> Json:
        """Posts one request and returns its answer, which is the end of a stream where it took long."""
        return answer_of(self.post(message, headers))

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

    def in_background(self, message: Any, headers: Mapping[str, str] | None = None) -> Background:
        """Posts one message on a thread of its own."""
        return Background(self, message, headers)


class Background(threading.Thread):
    """A request that is answered later."""

    def __init__(self, client: WebClient, message: Any, headers: Mapping[str, str] | None) -> None:
        super().__init__(daemon=True)
        self._client, self._message, self._headers = client, message, headers
        self._response: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        """Waits for the answer."""
        self._response = self._client.post(self._message, self._headers)

    def response(self) -> httpx.Response:
        """The answer."""
        self.join(WAIT_S)
        assert self._response is not None
        return self._response


def answer_of(response: httpx.Response) -> Json:
    """The answer in a response to one request."""
    is_stream = response.headers["content-type"] == "text/event-stream"
    last_line = response.text.rstrip().rpartition("\n")[2]
    message: Json = json.loads(last_line.removeprefix("data: ") if is_stream else response.text)
    return message


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
    name = params.get("name", params.get("uri", params.get("taskId")))
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": message["method"]}
    return headers if name is None else {**headers, "mcp-name": name}
