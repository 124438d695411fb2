"""Signals, and the death of the host, in every phase: the server ends in time and leaves no process behind."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import OneProcess, assert_all_end, children_of
from tests.e2e.server_process import EXIT_LIMIT_S, LOAD_S, Json, ServerProcess
from tests.mcp_results import text_of
from tests.scripted_omni import ScriptedOmni

LONG_CHAT: Json = {"messages": [{"role": "user", "content": "Tell me more."}], "max_tokens": 900, "ignore_eos": True}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SHORT_CHAT: Json = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
BATCH: Json = {"prompts": ["a", "b", "c"], "width": 64, "height": 64}
PHASES = ("idle", "importing vLLM", "loading weights", "loaded", "generating", "released", "jobs")
WAITING = ("importing vLLM", "loading weights", "generating")
"""Phases in which a call waits for the model."""
GONE_S = 5.0

HOST = """
import subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
print(server.pid, flush=True)
threading.Thread(target=lambda: [server.stdin.write(line) for line in sys.stdin.buffer], daemon=True).start()
for line in server.stdout:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
"""
"""A host in the middle, which alone has the server's pipes; its first line is the server's process id."""


@pytest.fixture(scope="module")
def omni() -> Iterator[ScriptedOmni]:
    """A server of images that takes longer than any test."""
    with ScriptedOmni() as server:
        server.delay_s = 2.0
        yield server


@pytest.fixture
def settings(model: dict[str, str], omni: ScriptedOmni, tmp_path: Path) -> dict[str, str]:
    return {**model, "VLLM_CPU_KVCACHE_SPACE": "0.25", "OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(tmp_path / "out")}


class HostedServer(ServerProcess):
    """A server behind `HOST`, whose process id and signals are the host's."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment, wrapper=(sys.executable, "-c", HOST), read_stdout=False)

    def first_line(self) -> bytes:
        """What the host itself says; from then on its lines are the server's."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.start_reading()
        return line


def enter(server: ServerProcess, phase: str) -> list[OneProcess]:
    """Brings a fresh server into a phase; returns its children there."""
    server.initialize()
    if phase == "idle":
        server.result("model_info")
    elif phase in ("loaded", "released"):
        server.result("chat_completion", SHORT_CHAT)
        if phase == "released":
            server.result("release_gpu")
    elif phase == "jobs":
        server.send_call("batch_generate", BATCH, request_id="call", meta={"progressToken": 1})
        server.read_message()
    else:
        server.send_call("chat_completion", LONG_CHAT, request_id="call", meta={"progressToken": 1})
        while not is_in(phase, server.read_message(LOAD_S)["params"]):
            pass
    return server.descendants()


def is_in(phase: str, progress: Json) -> bool:
    """Whether a progress notification tells of a phase."""
    return progress.get("message") == phase or (phase == "generating" and progress["progress"] >= 1)


TOLD_ELSEWHERE = {(phase, signal.SIGTERM) for phase in WAITING} | {("idle", number) for number in SIGNALS}
"""What `test_lifecycle.py` tests."""


@pytest.mark.parametrize(
    ("phase", "number"),
    [(phase, number) for phase in PHASES for number in SIGNALS if (phase, number) not in TOLD_ELSEWHERE],
)
def test_signal_ends_the_server_in_time_with_an_answer_and_no_orphan(
    settings: dict[str, str], phase: str, number: signal.Signals
) -> None:
    with ServerProcess(settings) as server:
        children = enter(server, phase)
        begin_s = time.monotonic()
        server.signal(number)
        server.assert_ends_promptly(begin_s)
        answers = [message for message in server.remaining() if "id" in message]
        assert [answer["id"] for answer in answers] == (["call"] if phase in (*WAITING, "jobs") else [])
        if phase in WAITING:
            assert "shutting down" in text_of(answers[0])
        assert_all_end(children)
        assert server.marked() == []


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "loading weights"])
def test_kill_leaves_no_orphan(settings: dict[str, str], phase: str) -> None:
    with ServerProcess(settings) as server:
        children = enter(server, phase)
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        assert_all_end([*children, *server.marked()])


@pytest.mark.parametrize("phase", PHASES)
def test_server_ends_in_time_when_its_host_is_killed(settings: dict[str, str], phase: str) -> None:
    server = HostedServer(settings)
    with server:
        pid = int(server.first_line())
        enter(server, phase)
        processes = children_of(server.pid)
        assert pid in [process.pid for process in processes]
        server.signal(signal.SIGKILL)
        assert_all_end([*processes, *server.marked()], timeout_s=EXIT_LIMIT_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_sockets_of_the_engines_process_go_with_the_server(settings: dict[str, str], number: signal.Signals) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def sockets() -> list[Path]:
            return [path for path in Path(folder).rglob("*") if path.is_socket()]

        with ServerProcess({**settings, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "TMPDIR": folder}) as server:
            children = enter(server, "generating")
            assert sockets()
            server.signal(number)
            server.wait()
            assert_all_end([*children, *server.marked()])
        until_s = time.monotonic() + GONE_S
        while left := sockets():  # what outlives a killed server removes them last
            assert time.monotonic() < until_s, left
            time.sleep(0.02)
