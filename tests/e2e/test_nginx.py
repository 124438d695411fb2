"""The server behind a real nginx with our configuration: answers, events as they come, large bodies."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server_process import ANSWER_S, LOAD_S, ROOT, ServerProcess
from tests.nginx import nginx_program

Json = dict[str, Any]
TOKEN = "a-token-of-the-test"
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
}
ASK_INFO = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "model_info", "arguments": {}}}


class OverSocket(http.client.HTTPConnection):
    """HTTP over a socket with a path: no port that another program could take meanwhile."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LOAD_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@pytest.fixture(scope="module")
def server(model: dict[str, str]) -> Iterator[ServerProcess]:
    """A server over HTTP with nothing loaded."""
    environment = {**model, "VLLM_HTTP_TOKENS": TOKEN}
    with ServerProcess(environment, ["--transport", "http", "--port", "0"]) as process:
        yield process


@pytest.fixture(scope="module")
def proxy(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """nginx in front of it, on a socket; its configuration is ours but for the addresses and the folders."""
    folder = tmp_path_factory.mktemp("nginx")
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for ours, here in {
        "/tmp/": f"{folder}/",
        "server:8080": f"127.0.0.1:{port_of(server)}",
        "listen 8081;": f"listen unix:{folder}/socket;",
        "access_log /dev/stdout": f"access_log {folder}/access.log",
    }.items():
        assert ours in text, ours
        text = text.replace(ours, here)
    (folder / "nginx.conf").write_text(text)
    user = " user root;" if os.geteuid() == 0 else ""
    process = subprocess.Popen(
        [nginx_program(), "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf", "-g", f"daemon off;{user}"],
        stdin=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + ANSWER_S
        while not (folder / "socket").exists() and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.02)
        yield folder / "socket"
    finally:
        process.terminate()
        process.wait(ANSWER_S)


def port_of(server: ServerProcess) -> str:
    """The port that it took; waits until it listens."""
    until_s = time.monotonic() + ANSWER_S
    while time.monotonic() < until_s:
        if found := re.search(r"listening at http://127\.0\.0\.1:(\d+)/mcp", server.stderr):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(server.stderr)


@contextlib.contextmanager
def asked(
    proxy: Path, method: str, path: str, body: bytes | None = None, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    """The open answer to a request through nginx."""
    with contextlib.closing(OverSocket(proxy)) as connection:
        connection.request(method, path, body, headers)
        yield connection.getresponse()


def posted(message: Json, proxy: Path, **headers: str) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
    """The open answer to a message."""
    return asked(proxy, "POST", "/mcp", json.dumps(message).encode(), **{**HEADERS, **headers})


@pytest.fixture(scope="module")
def session(proxy: Path) -> str:
    """A session that was begun through nginx."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    with posted({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, proxy) as answer:
        assert answer.status == 200
        found = answer.headers["Mcp-Session-Id"]
    assert found
    return found


def test_health_passes_and_figures_do_not(proxy: Path) -> None:
    with asked(proxy, "GET", "/health") as answer:
        assert answer.status == 200
    for path in (
        "/metrics",
        "/metrics/",
        "//metrics",
        "/%6detrics",
        "/METRICS",
        "/metrics%2f",
        "/x/../metrics",
        "/metrics?x",
    ):
        with asked(proxy, "GET", path, Authorization=HEADERS["Authorization"]) as answer:
            assert answer.status == 404, path


def test_calls_need_the_token(proxy: Path, session: str) -> None:
    with posted(ASK_INFO, proxy, **{"Mcp-Session-Id": session}) as answer:
        assert answer.status == 200
        assert not json.loads(answer.read())["result"]["isError"]
    with posted(ASK_INFO, proxy, Authorization="Bearer wrong") as answer:
        assert answer.status == 401


def test_images_pass_up_to_the_servers_own_limit(proxy: Path, session: str) -> None:
    parts = [{"type": "image", "data": "A" * (24 << 20), "mimeType": "image/png"}]
    arguments = {"messages": [{"role": "user", "content": parts}]}
    message = {**ASK_INFO, "params": {"name": "chat_completion", "arguments": arguments}}
    with posted(message, proxy, **{"Mcp-Session-Id": session}) as answer:
        assert answer.status == 200
        assert json.loads(answer.read())["result"]["isError"]
    with contextlib.closing(OverSocket(proxy)) as connection:
        connection.putrequest("POST", "/mcp")
        connection.putheader("Content-Length", str(65 << 20))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_events_come_while_the_answer_is_in_the_making(proxy: Path, session: str) -> None:
    """The phases of a load come before the model is there; held back, they would come with the answer."""
    arguments = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    params = {"name": "chat_completion", "arguments": arguments, "_meta": {"progressToken": "p"}}
    with posted({**ASK_INFO, "id": 7, "params": params}, proxy, **{"Mcp-Session-Id": session}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        first = next_event(answer)
        assert first["method"] == "notifications/progress"
        reading = {"jsonrpc": "2.0", "id": 8, "method": "resources/read", "params": {"uri": "vllm://model"}}
        with posted(reading, proxy, **{"Mcp-Session-Id": session}) as now:  # answered while others wait for the model
            (content,) = json.loads(now.read())["result"]["contents"]
        assert json.loads(content["text"])["server_state"] == "loading"
        last = first
        while "result" not in last:
            last = next_event(answer)
        assert last["id"] == 7
        assert not last["result"]["isError"]


def next_event(answer: http.client.HTTPResponse) -> Json:
    """The next event's message; comments are passed over."""
    while True:
        line = answer.readline()
        assert line, "the stream has ended"
        if line.startswith(b"data: "):
            message: Json = json.loads(line[len(b"data: ") :])
            return message


def test_log_of_nginx_has_no_secret(proxy: Path, session: str) -> None:
    log = (proxy.parent / "access.log").read_text()
    assert "/mcp" in log
    assert TOKEN not in log
    assert session not in log
