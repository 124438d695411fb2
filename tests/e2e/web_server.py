"""The real server over HTTP on a free port of this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import pytest

from tests.e2e.server_process import ANSWER_S, Json, ServerProcess
from tests.web_client import WebClient, call, request

LISTENING = re.compile(r"listening at (http://\S+)/mcp$", re.MULTILINE)


class WebServer(ServerProcess):
    """One server process that listens; both transports over HTTP unless `transport` says otherwise."""

    def __init__(self, environment: Mapping[str, str] | None = None, *, transport: str = "sse") -> None:
        super().__init__(environment, ["--transport", transport, "--port", "0"])
        self.url = self._wait_for_url()
        self.client = WebClient(self.url)

    def __enter__(self) -> WebServer:
        return self

    def kill(self) -> None:
        """Ends the process, and the connections to it."""
        if hasattr(self, "client"):
            self.client.http.close()
        super().kill()

    def _wait_for_url(self) -> str:
        until_s = time.monotonic() + ANSWER_S
        while (found := LISTENING.search(self.stderr)) is None:
            if self.process.poll() is not None or time.monotonic() > until_s:
                self.kill()
                pytest.fail(f"the server does not listen: {self.stderr[-2000:]}")
            time.sleep(0.02)
        return found[1]

    def load_model(self, headers: Mapping[str, str] | None = None) -> dict[str, str]:
        """Begins a session and has the model answer once; returns the headers of the session's requests."""
        session = self.client.initialize(**(headers or {}))
        self.chat(session, max_tokens=1)
        return session

    def chat(self, session: Mapping[str, str], words: str = "Hello", **arguments: object) -> Json:
        """What the model says, as structured content."""
        answer = self.client.answer(call("chat_completion", said(words, **arguments)), session)
        assert not answer["result"]["isError"], answer
        structured: Json = answer["result"]["structuredContent"]
        return structured

    def figures(self, headers: Mapping[str, str] | None = None) -> str:
        """What is told to Prometheus."""
        return self.client.http.get("/metrics", headers=headers).raise_for_status().text


def said(words: str, **arguments: object) -> Json:
    """The arguments of `chat_completion` for one message."""
    return {"messages": [{"role": "user", "content": words}], "temperature": 0, **arguments}


def ping() -> Json:
    """A request that is answered at once."""
    return request("ping")
