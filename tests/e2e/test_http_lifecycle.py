"""How a server over HTTP starts, refuses to start, and ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.e2e.processes import assert_all_end
from tests.e2e.server_process import SERVER, client_environment
from tests.e2e.web_server import WebServer, said
from tests.mcp_results import text_of
from tests.web_client import answer_of, call

ENDLESS = said("Hello", max_tokens=2000, min_tokens=2000, ignore_eos=True)


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a server that is to end by itself."""
    return subprocess.run(
        [sys.executable, str(SERVER), *arguments],
        env=client_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_server_refuses_to_listen_beyond_this_machine_without_a_token() -> None:
    done = start("--transport", "http", "--host", "0.0.0.0", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "VLLM_HTTP_TOKENS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (("--port", "70000"), {}, "VLLM_HTTP_PORT"),
        (("--host", "no.such.host.invalid"), {}, "VLLM_HTTP_HOST"),
        ((), {"VLLM_HTTP_TOKENS": "with space"}, "VLLM_HTTP_TOKENS"),
    ],
)
def test_wrong_setting_of_the_transport_ends_the_start(
    arguments: tuple[str, ...], environment: dict[str, str], named: str
) -> None:
    done = start("--transport", "http", *arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "with space" not in done.stderr


def test_server_with_a_wrong_setting_is_not_healthy() -> None:
    with WebServer({"VLLM_DTYPE": "float8"}, transport="http") as server:
        assert server.client.http.get("/health").status_code == 503
        session = server.client.initialize()
        answer = server.client.answer(call("model_info"), session)
        assert "VLLM_DTYPE" in text_of(answer)
        assert server.client.http.get("/sse").status_code == 404


def test_deadline_is_kept_while_the_model_loads(model: dict[str, str]) -> None:
    with WebServer({**model, "VLLM_CALL_TIMEOUT": "1"}, transport="http") as server:
        session = server.client.initialize()
        answer = server.client.answer(call("chat_completion", said("Hello")), session)
        assert answer["result"]["isError"] is True
        assert "is still" in text_of(answer)
        server.signal(signal.SIGTERM)
        server.assert_ends_promptly(time.monotonic())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_idle_ends_promptly(number: signal.Signals) -> None:
    with WebServer() as server:
        session = server.client.initialize()
        with (
            httpx.stream("GET", f"{server.url}/mcp", headers={**session, "accept": "text/event-stream"}) as mcp,
            httpx.stream("GET", f"{server.url}/sse", timeout=60) as sse,
        ):
            assert mcp.status_code == sse.status_code == 200
            since_s = time.monotonic()
            server.signal(number)
            server.assert_ends_promptly(since_s)


def test_signal_while_generating_answers_what_runs_and_leaves_nothing(model: dict[str, str]) -> None:
    with WebServer({**model, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}) as server:
        session = server.load_model()
        children = server.descendants()
        assert children
        with server.client.stream(call("chat_completion", ENDLESS, progressToken=1), session) as events:
            events.next()
            waiting = server.client.in_background(call("chat_completion", said("Hello"), 2), session)
            while "queue_length 1" not in server.figures():
                time.sleep(0.02)
            since_s = time.monotonic()
            server.signal()
            last = list(events)[-1]
            assert last["result"]["isError"] is True
            assert "shutting down" in text_of(last)
            assert "shutting down" in text_of(answer_of(waiting.response()))
            server.assert_ends_promptly(since_s)
        assert_all_end(children)


def test_signal_while_loading_ends_promptly(model: dict[str, str]) -> None:
    with WebServer({**model, "VLLM_PRELOAD": "1"}) as server:
        while 'vllm_mcp_engine_state{state="loading"} 1' not in server.figures():
            time.sleep(0.02)
        since_s = time.monotonic()
        server.signal()
        server.assert_ends_promptly(since_s)
