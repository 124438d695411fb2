"""Stdout carries messages and nothing else; neither it nor stderr can bring the server to a halt."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.server_process import ALL_CLOSED, CLOSED_STDERR, ServerProcess

NOISE = """
import ctypes, os, subprocess, sys, threading, time, warnings

def make_noise():
    while getattr(sys.modules.get("mcp_protocol.log"), "_pump", None) is None:
        time.sleep(0.01)
    print("NOISE print")
    sys.stdout.flush()
    os.write(1, b"NOISE write\\n")
    warnings.warn("NOISE warning")
    libc = ctypes.CDLL(None)
    libc.printf(b"NOISE printf\\n")
    libc.fflush(None)
    subprocess.run("echo NOISE child; cat; echo NOISE cat ended", shell=True)
    n_bytes = int(os.environ.get("NOISE_BYTES", "0"))
    os.write(2, b"x" * (n_bytes % 1000))
    for _ in range(n_bytes // 1000):
        os.write(2, b"y" * 999 + b"\\n")
    open(os.environ["NOISE_DONE"], "w").close()

if os.environ.get("NOISE_DONE"):
    threading.Thread(target=make_noise, daemon=True).start()
"""


@pytest.fixture
def noise(tmp_path: Path) -> dict[str, str]:
    """An environment in which a thread of the server prints in every way there is, and a file that tells the end."""
    (tmp_path / "sitecustomize.py").write_text(NOISE)
    return {"PYTHONPATH": str(tmp_path), "NOISE_DONE": str(tmp_path / "done")}


def wait_for_file(path: str, timeout_s: float = 60.0) -> None:
    """Waits until a file is there."""
    until_s = time.monotonic() + timeout_s
    while not os.path.exists(path):
        assert time.monotonic() < until_s, path
        time.sleep(0.02)


def test_prints_of_every_kind_go_to_stderr_and_a_child_gets_no_input(noise: dict[str, str]) -> None:
    with ServerProcess(noise) as server:
        server.assert_serves()
        wait_for_file(noise["NOISE_DONE"])
        server.assert_serves()
        server.close_stdin()
        assert server.wait() == 0
        assert [b"NOISE" in line for line in server.raw_lines] == [False, False]
        for kind in ("print", "write", "warning", "printf", "child", "cat ended"):
            assert f"NOISE {kind}" in server.stderr


def test_stderr_that_nobody_reads_stops_nothing(noise: dict[str, str]) -> None:
    with ServerProcess({**noise, "NOISE_BYTES": "5000000"}, read_stderr=False) as server:
        server.assert_serves()
        wait_for_file(noise["NOISE_DONE"])
        server.assert_serves()
        begin_s = time.monotonic()
        server.signal(signal.SIGTERM)
        server.assert_ends_promptly(begin_s)


def test_dropped_log_is_counted_for_a_late_reader(noise: dict[str, str]) -> None:
    with ServerProcess({**noise, "NOISE_BYTES": "5000000"}, read_stderr=False) as server:
        server.assert_serves()
        wait_for_file(noise["NOISE_DONE"])
        server.start_reading_stderr()
        server.close_stdin()
        assert server.wait() == 0
        assert "bytes of log dropped" in server.stderr


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_stdout_is_clean_at_every_log_level(level: str) -> None:
    with ServerProcess({"VLLM_LOG_LEVEL": level, "PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "always"}) as server:
        server.initialize()
        server.call("model_info")
        server.assert_serves()


def test_stderr_closed_by_the_host_stops_nothing() -> None:
    with ServerProcess(read_stderr=False) as server:
        assert server.process.stderr is not None
        server.process.stderr.close()
        server.initialize()
        server.call("model_info")
        server.close_stdin()
        assert server.wait() == 0


def test_stderr_closed_from_the_start_stops_nothing() -> None:
    with ServerProcess(wrapper=CLOSED_STDERR) as server:
        server.initialize()
        server.call("model_info")
        server.close_stdin()
        assert server.wait() == 0


def test_everything_closed_from_the_start_ends_the_server() -> None:
    with ServerProcess(wrapper=ALL_CLOSED) as server:
        assert server.wait() == 0


def test_server_ends_when_nobody_reads_stdout_any_more() -> None:
    with ServerProcess(read_stdout=False) as server:
        server.close_stdout()
        assert server.wait() == 0


def test_server_ends_when_the_reader_leaves_in_the_middle() -> None:
    with ServerProcess(read_stdout=False) as server:
        for _ in range(30):  # far more than a pipe holds: the server stands in a write
            server.send_request("tools/list")
        server.wait_for_output()
        server.close_stdout()
        assert server.wait() == 0


def test_slow_reader_gets_everything_in_the_end() -> None:
    with ServerProcess(read_stdout=False) as server:
        ids = [server.send_request("tools/list") for _ in range(30)]
        ids += [server.send_call("model_info") for _ in range(5)]
        server.wait_for_output()
        server.start_reading()
        assert [server.read_message()["id"] for _ in ids] == ids
        server.assert_serves()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_server_whose_reader_stalls(number: signal.Signals) -> None:
    with ServerProcess(read_stdout=False) as server:
        for _ in range(30):
            server.send_request("tools/list")
        server.wait_for_output()
        begin_s = time.monotonic()
        server.signal(number)
        server.assert_ends_promptly(begin_s)


def test_full_disk_behind_stdout_ends_the_server() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for tool in (True, False):
            with ServerProcess(stdout=full) as server:
                if tool:
                    server.send_call("model_info")
                else:
                    server.send_request("ping")
                server.close_stdin()
                assert server.wait() == 0
    finally:
        os.close(full)


@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "utf-16"},
        {"PYTHONUNBUFFERED": "1"},
    ],
)
def test_text_does_not_depend_on_the_locale(environment: dict[str, str]) -> None:
    text = "é漢\u2028😀"
    with ServerProcess(environment) as server:
        server.send_bytes(f'{{"id":"{text}","method":"tools/call","params":{{"name":"{text}"}}}}\n'.encode())
        answer = server.read_message()
        assert answer["id"] == text
        assert text in answer["error"]["message"]
        server.call("get_session", {"session_id": text})


def test_log_goes_to_the_file_that_the_setting_names(tmp_path: Path) -> None:
    log_file = tmp_path / "server.log"
    with ServerProcess({"VLLM_LOG_FILE": str(log_file)}) as server:
        server.call("model_info")
        server.close_stdin()
        assert server.wait() == 0
        assert server.stderr == ""
    assert "shutting down" in log_file.read_text()


def test_stdout_descriptor_is_not_inherited_by_children(noise: dict[str, str]) -> None:
    """A grandchild that held stdout would keep the host's pipe open after the server's end."""
    with ServerProcess(noise) as server:
        server.assert_serves()
        wait_for_file(noise["NOISE_DONE"])
        inheritable = [
            fd
            for fd in os.listdir(f"/proc/{server.pid}/fd")
            if not _close_on_exec(server.pid, fd) and "pipe" in os.readlink(f"/proc/{server.pid}/fd/{fd}")
        ]
        assert set(inheritable) <= {"1", "2"}
        assert os.readlink(f"/proc/{server.pid}/fd/1") == os.readlink(f"/proc/{server.pid}/fd/2")


def _close_on_exec(pid: int, fd: str) -> bool:
    flags = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split("flags:")[1].split()[0]
    return bool(int(flags, 8) & os.O_CLOEXEC)
