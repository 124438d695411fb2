"""A server over HTTP in this process, with the tools of the other tests of the protocol behind it."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from mcp_protocol.calls.call import Hooks
from mcp_protocol.http.metrics import Metrics
from mcp_protocol.http.service import HttpService
from mcp_protocol.server import Server
from mcp_protocol.tools.toolbox import Toolbox
from sandbox.budget import ByteBudget
from settings.server import HttpSettings
from tests.unit.mcp_protocol.host import INFO, TOOLS, WAIT_S, Gates, split_settings
from tests.unit.mcp_protocol.resources.shelf import Shelf
from tests.web_client import WebClient


class Web(WebClient):
    """A server on a free port of this machine, and a client of HTTP to it."""

    def __init__(self, *, budget: ByteBudget | None = None, **options: Any) -> None:
        self.gates = Gates()
        self.shelf = Shelf(one="1")
        self.metrics = Metrics()
        server_settings, options = split_settings(options)
        http = HttpSettings(port=0, **options)
        whole = ByteBudget(1 << 28) if budget is None else budget
        self.server = Server(
            INFO,
            server_settings,
            self._toolbox,
            self.shelf.resource_registry,
            hooks=Hooks(on_call_end=self.metrics.call_ended),
            budgets=[whole.part(2) for _ in http.tokens] if len(http.tokens) > 1 else [whole],
        )
        self.service = HttpService(self.server, http, metrics=self.metrics)
        self.service.start()
        super().__init__(self.service.url.removesuffix("/mcp"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.gates.go_on.set()
        self.http.close()
        self.service.stop()

    def _toolbox(self) -> Toolbox:
        return Toolbox(TOOLS, self.gates, lambda error: "Something went wrong.")

    def leave_while_it_runs(self, message: Any, headers: Mapping[str, str]) -> None:
        """Posts a call of `wait` and closes the connection as soon as it runs."""
        body = json.dumps(message).encode()
        given = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        with socket.create_connection(self.service.address) as connection:
            connection.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
            if not self.gates.running.wait(WAIT_S):
                raise TimeoutError("the tool was not called")


def code_of(response: httpx.Response) -> tuple[int, int]:
    """Status and code of an error."""
    return response.status_code, response.json()["error"]["code"]
