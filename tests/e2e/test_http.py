"""The server over HTTP: official clients, and what can go wrong between a client and it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.images import drawn, forms
from tests.e2e.server_process import ANSWER_S, LOAD_S, ROOT, Json, client_environment
from tests.e2e.test_clients import CLIENTS, LEGACY, MODERN, assert_seen
from tests.e2e.test_http_lifecycle import ENDLESS, start
from tests.e2e.web_server import WebServer, ping, said
from tests.mcp_results import check_notification, text_of
from tests.web_client import call, headers_of, modern

TOKEN = "not-a-secret-in-tests"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
OVER_HTTP = {
    "Python SDK 1": ("Python SDK 1", "http"),
    "Python SDK 1 over SSE": ("Python SDK 1", "sse"),
    "Python SDK 2, auto": ("Python SDK 2, auto", "http"),
    "Python SDK 2, legacy": ("Python SDK 2, legacy", "http"),
    "Python SDK 2, legacy, over SSE": ("Python SDK 2, legacy", "sse"),
    "TypeScript SDK 1": ("TypeScript SDK 1", "http"),
    "TypeScript client 2, legacy": ("TypeScript client 2, legacy", "http"),
    "TypeScript client 2, legacy, over SSE": ("TypeScript client 2, legacy", "sse"),
    "TypeScript client 2, auto": ("TypeScript client 2, auto", "http"),
}
PATHS = {"http": "/mcp", "sse": "/sse"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder whose files are read."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def web(model: dict[str, str], images: Path) -> Iterator[WebServer]:
    """A server for the module, with the model loaded; tests must leave it as they found it."""
    settings = {
        "VLLM_HTTP_TOKENS": f"another,{TOKEN}",
        "VLLM_ALLOWED_MEDIA_DIRS": str(images),
        "GPU_IDLE_TIMEOUT": "0",
    }
    with WebServer({**model, **settings}) as server:
        server.load_model(AUTHORIZED)
        yield server


@pytest.fixture
def session(web: WebServer) -> Iterator[dict[str, str]]:
    """The headers of a session of the test's own."""
    headers = web.client.initialize(**AUTHORIZED)
    yield headers
    web.client.http.delete("/mcp", headers=headers)


# Official clients


@pytest.mark.parametrize(("name", "transport"), OVER_HTTP.values(), ids=OVER_HTTP)
def test_official_client_uses_everything(
    name: str, transport: str, web: WebServer, images: Path, tmp_path: Path
) -> None:
    client, version = CLIENTS[name]
    image = forms(drawn("blue", "circle", "red"), images)["path"]["path"]
    run = subprocess.run(
        [*client.command(tmp_path), client.mode, transport, web.url + PATHS[transport], image],
        input=json.dumps({"Authorization": f"Bearer {TOKEN}"}),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LOAD_S,
    )
    assert run.returncode == 0, run.stderr
    assert_seen(json.loads(run.stdout), version, image)


# Requests side by side


def test_clients_with_the_same_ids_get_their_own_answers(web: WebServer) -> None:
    """Sixteen clients at once, each with the same ids and a conversation of its own."""
    wrong: list[object] = []

    def talk(number: int) -> None:
        session = web.client.initialize(**AUTHORIZED)
        for turn in range(3):
            message = call("chat_completion", said(f"Hello {number}", session_id=f"client {number}"), turn)
            answer = web.client.answer(message, session)
            content = answer["result"]["structuredContent"]
            if (answer["id"], content["session_id"], content["session_messages"]) != (
                turn,
                f"client {number}",
                2 * turn + 2,
            ):
                wrong.append(answer)
        web.client.http.delete("/mcp", headers=session)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LOAD_S)
    assert wrong == []


def test_streams_side_by_side_carry_each_its_own_progress(web: WebServer, session: dict[str, str]) -> None:
    pieces: dict[str, list[Json]] = {}

    def listen(token: str) -> None:
        message = call("chat_completion", said("Hello", max_tokens=8), request_id=1, progressToken=token)
        with web.client.stream(message, session) as events:
            pieces[token] = list(events)

    threads = [threading.Thread(target=listen, args=(token,)) for token in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LOAD_S)
    assert set(pieces) == {"a", "b", "c"}
    for token, (*progress, answer) in pieces.items():
        told = [check_notification("notifications/progress", LEGACY, message) for message in progress]
        assert {params["progressToken"] for params in told} == {token}
        text = "".join(params["message"] for params in told if params["progress"] >= 1)
        assert text == answer["result"]["structuredContent"]["text"]


def test_server_answers_others_while_it_generates(web: WebServer, session: dict[str, str]) -> None:
    with web.client.stream(call("chat_completion", ENDLESS, progressToken=1), session) as events:
        events.next()
        assert web.client.answer(ping(), session)["result"] == {}
        assert 'vllm_mcp_engine_state{state="ready"} 1' in web.figures(AUTHORIZED)
        cancel(web, session, 1)
        assert [message for message in events if "id" in message] == []


# Giving up


def cancel(web: WebServer, session: dict[str, str], request_id: object) -> None:
    """Says that a request is no longer wanted."""
    params = {"requestId": request_id, "reason": "test"}
    answer = web.client.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}, session)
    assert answer.status_code == 202


def test_cancelled_generation_stops_and_gets_no_answer(web: WebServer, session: dict[str, str]) -> None:
    with web.client.stream(call("chat_completion", ENDLESS, request_id="long", progressToken=1), session) as events:
        events.next()
        cancel(web, session, "long")
        assert [message for message in events if "id" in message] == []
    assert web.chat(session, max_tokens=1)["timings"]["queue_ms"] < 1000


def test_modern_client_cancels_by_leaving(web: WebServer, session: dict[str, str]) -> None:
    message = modern("tools/call", {"name": "chat_completion", "arguments": ENDLESS}, progressToken=1)
    with web.client.stream(message, {**headers_of(message), **AUTHORIZED}) as events:
        check_notification("notifications/progress", MODERN, events.next())
    assert web.chat(session, max_tokens=1)["timings"]["queue_ms"] < 1000


def test_ending_a_session_ends_its_calls(web: WebServer, session: dict[str, str]) -> None:
    own = web.client.initialize(**AUTHORIZED)
    with web.client.stream(call("chat_completion", ENDLESS, progressToken=1), own) as events:
        events.next()
        assert web.client.http.delete("/mcp", headers=own).status_code == 204
        assert [message for message in events if "id" in message] == []
    assert web.chat(session, max_tokens=1)["timings"]["queue_ms"] < 1000


# Who is let in, and to what


def look_at(path: str) -> Json:
    """A call that reads an image."""
    return call("analyze_single_image", {"image_path": path, "query": "What is in this image?"})


def test_strangers_are_refused(web: WebServer) -> None:
    http = web.client.http
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({**AUTHORIZED, "host": "evil.example"}, 403),
        ({**AUTHORIZED, "origin": "https://evil.example"}, 403),
        ({**AUTHORIZED, "mcp-session-id": "guess"}, 404),
    ):
        answer = http.post("/mcp", json=ping(), headers=headers)
        assert answer.status_code == status
        assert TOKEN not in answer.text
    assert TOKEN not in web.stderr


def test_commands_of_the_manual_are_answered(web: WebServer) -> None:
    text = (ROOT / "docs" / "http.md").read_text("utf-8").partition("\n## With curl\n")[2].partition("\n## ")[0]
    scripts = [
        block for block in re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if "curl" in block
    ]
    assert len(scripts) == 2
    for script in scripts:
        assert "URL=http://127.0.0.1:8080\n" in script
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8080", web.url)],
            env=client_environment({"VLLM_HTTP_TOKENS": TOKEN}),
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
        )
        assert run.returncode == 0, run.stderr
        assert '"isError":false' in run.stdout, run.stdout
        assert '"code"' not in run.stdout


def test_any_name_of_the_server_will_do_where_others_may_come_with_a_token() -> None:
    """A page could point its name at the server, but has no token; see the manual."""
    with WebServer({"VLLM_HTTP_TOKENS": TOKEN, "VLLM_HTTP_HOST": "0.0.0.0"}) as server:
        for host, origin, status in (("gpu-box:8080", None, 200), ("gpu-box", "https://evil.example", 403)):
            headers = {**AUTHORIZED, "host": host, **({} if origin is None else {"origin": origin})}
            assert server.client.http.get("/metrics", headers=headers).status_code == status
        assert server.client.http.get("/metrics", headers={"host": "gpu-box"}).status_code == 401


# Whoever has shown no token


def sockets(web: WebServer, n: int) -> list[socket.socket]:
    """So many connections."""
    host, _, port = web.url.removeprefix("http://").rpartition(":")
    return [socket.create_connection((host, int(port)), ANSWER_S) for _ in range(n)]


def test_headers_without_end_take_no_memory(web: WebServer) -> None:
    before = web.resident_bytes()
    lines = sockets(web, 8)
    block = b"".join(b"X-%07d: %s\r\n" % (number, b"a" * 50) for number in range(10_000))
    for line in lines:
        with contextlib.suppress(OSError):
            line.sendall(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + block * 20)
    grown = web.resident_bytes() - before
    for line in lines:
        line.close()
    assert grown < 32 << 20


def test_silent_connections_keep_nobody_out(web: WebServer) -> None:
    silent = sockets(web, 600)
    try:
        since_s = time.monotonic()
        assert web.client.http.get("/health").status_code == 200
        session = web.client.initialize(**AUTHORIZED)
        assert web.client.answer(ping(), session)["result"] == {}
        assert time.monotonic() - since_s < ANSWER_S
        web.client.http.delete("/mcp", headers=session)
    finally:
        for line in silent:
            line.close()


def test_files_are_read_in_the_allowed_folders_alone(
    web: WebServer, session: dict[str, str], images: Path, tmp_path: Path
) -> None:
    for folder, allowed in ((images, True), (tmp_path, False)):
        path = forms(drawn("blue", "circle", "red"), folder)["path"]["path"]
        result = web.client.answer(look_at(path), session)
        assert result["result"]["isError"] is not allowed, result
    for path in ("/etc/passwd", "~/.bashrc", f"{images}/../x.png", "file:///etc/passwd", "/proc/self/environ"):
        answer = web.client.answer(look_at(path), session)
        assert answer["result"]["isError"] is True
        assert "VLLM_ALLOWED_MEDIA_DIRS" in text_of(answer)


def test_no_file_is_read_where_no_folder_is_named(tmp_path: Path) -> None:
    path = forms(drawn("blue", "circle", "red"), tmp_path)["path"]["path"]
    with WebServer(transport="http") as server:
        session = server.client.initialize()
        answer = server.client.answer(look_at(path), session)
        assert answer["result"]["isError"] is True
        assert "VLLM_ALLOWED_MEDIA_DIRS" in text_of(answer)
        assert 'vllm_mcp_engine_state{state="unloaded"} 1' in server.figures()


def test_figures_tell_of_calls_tokens_and_the_engine(web: WebServer, session: dict[str, str]) -> None:
    def figure(name: str) -> float:
        lines = [line for line in web.figures(AUTHORIZED).splitlines() if line.startswith(name)]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    ok = 'vllm_mcp_calls_total{tool="chat_completion",outcome="ok"}'
    names = (ok, "vllm_mcp_prompt_tokens_total", "vllm_mcp_generated_tokens_total")
    before = [figure(name) for name in names]
    usage = web.chat(session, max_tokens=5)["usage"]
    expected = [1, usage["prompt_tokens"], usage["completion_tokens"]]
    assert [figure(name) - so_far for name, so_far in zip(names, before, strict=True)] == expected
    assert figure("vllm_mcp_queue_length") == 0
    assert figure("vllm_mcp_sessions") >= 1
    assert web.client.http.get("/metrics").status_code == 401
    assert web.client.http.get("/health").json() == {"status": "ok"}


def test_port_in_use_is_named(web: WebServer) -> None:
    port = web.url.rpartition(":")[2]
    done = start("--transport", "http", "--port", port)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
