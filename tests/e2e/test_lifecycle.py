"""How the server starts and how it ends, in every phase."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_protocol.exit_limit import EXIT_S
from tests.e2e.processes import OneProcess, assert_all_end
from tests.e2e.server_process import LOAD_S, SERVER, Json, ServerProcess, client_environment
from tests.mcp_results import text_of

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PIPE_BYTES = 65_536
LONG_CHAT: Json = {"messages": [{"role": "user", "content": "Tell me more."}], "max_tokens": 900, "ignore_eos": True}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the server with options that make it print something and end."""
    return subprocess.run(
        [sys.executable, str(SERVER), *arguments],
        env=client_environment(environment),
        input="",
        capture_output=True,
        timeout=120,
        check=False,
        encoding="utf-8",
    )


# Starting


@pytest.mark.parametrize("environment", [{}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}], ids=str)
def test_help_lists_every_setting(environment: dict[str, str]) -> None:
    done = run("--help", **environment)
    assert done.returncode == 0, done.stderr
    for name in ("VLLM_MODEL_NAME", "VLLM_CALL_TIMEOUT", "VLLM_MAX_SESSIONS", "--log-level", "--version"):
        assert name in done.stdout
    assert done.stderr == ""


def test_version_is_printed() -> None:
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("vllm-mcp-server ")


@pytest.mark.parametrize("arguments", [("--no-such-option",), ("--log-level", "LOUD"), ("--log-level",), ("extra",)])
def test_wrong_option_is_explained_on_stderr(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage:" in done.stderr


def test_log_level_option_wins_over_the_environment() -> None:
    with ServerProcess({"VLLM_LOG_LEVEL": "DEBUG"}, ["--log-level", "error"]) as server:
        server.close_stdin()
        assert server.wait() == 0
        assert server.stderr == ""


def test_wrong_settings_are_the_answer_of_every_call_while_the_handshake_works() -> None:
    with ServerProcess({"VLLM_CALL_TIMEOUT": "soon", "VLLM_DTYPE": "float8"}) as server:
        server.initialize()
        assert server.request("tools/list")["result"]["tools"]
        for _ in range(2):
            answer = server.call("model_info")
            assert answer["result"]["isError"]
            assert "The setting VLLM_CALL_TIMEOUT is 'soon'; allowed: a number from 0 to 86400." in text_of(answer)
            assert "The setting VLLM_DTYPE is 'float8'; allowed: auto, float16" in text_of(answer)
        assert "VLLM_CALL_TIMEOUT" in server.stderr


def test_log_file_that_cannot_be_written_is_a_problem_like_any_other() -> None:
    with ServerProcess({"VLLM_LOG_FILE": "/no/such/folder/log"}) as server:
        assert "VLLM_LOG_FILE" in text_of(server.call("model_info"))


def test_toolsets_pick_families_of_tools() -> None:
    with ServerProcess({"VLLM_TOOLSETS": "chat"}) as server:
        assert "chat_completion" in {tool["name"] for tool in server.request("tools/list")["result"]["tools"]}


def test_slim_and_single_tools_are_what_is_listed_described_and_called() -> None:
    with ServerProcess({"VLLM_TOOLS": "-generate_image,model_info,relase_gpu"}, ["--slim"]) as server:
        instructions = server.initialize()["instructions"]
        names = [tool["name"] for tool in server.request("tools/list")["result"]["tools"]]
        assert names == ["chat_completion", "model_info", "analyze_images_with_query", "job_status"]
        assert "chat_completion" in instructions
        assert "generate_image" not in instructions
        assert not server.call("model_info")["result"]["isError"]
        refused = server.call("generate_image", {"prompt": "x"})
        assert "VLLM_TOOLS of this server leave generate_image out" in refused["error"]["message"]
        assert "Did you mean release_gpu?" in server.stderr


def test_servers_start_side_by_side_and_one_may_end_at_once() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess()) for _ in range(3)]
        probe = servers.pop()
        probe.close_stdin()
        probe.signal()
        for server in servers:
            assert server.initialize()["serverInfo"]["name"] == "vllm-mcp-server"
        for server in servers:
            assert not server.call("model_info")["result"]["isError"]


def test_server_leaves_its_working_folder_and_no_file_in_it(tmp_path: Path) -> None:
    with ServerProcess(cwd=tmp_path) as server:
        server.initialize()
        server.call("model_info")
        assert os.readlink(f"/proc/{server.pid}/cwd") == os.sep
        assert list(tmp_path.iterdir()) == []


def test_thousand_calls_leave_no_descriptor_and_no_thread_behind(server: ServerProcess) -> None:
    def held() -> list[int]:
        """The fewest of some moments: what a thread has open just now is not left behind."""
        counts = []
        for _ in range(10):
            counts.append([len(os.listdir(f"/proc/{server.pid}/{kind}")) for kind in ("fd", "task")])
            time.sleep(0.01)
        return [min(column) for column in zip(*counts, strict=True)]

    server.call("model_info")
    before, before_bytes = held(), server.resident_bytes()
    for number in range(1000):
        answer = server.call(("model_info", "list_sessions", "get_session")[number % 3], {"session_id": "x"})
        assert "result" in answer
    assert held() == before
    assert server.resident_bytes() - before_bytes < 8 << 20


# Ending without a model


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_ends_an_idle_server_with_status_0(server: ServerProcess, number: signal.Signals) -> None:
    server.initialize()
    server.call("model_info")
    children = server.descendants()
    begin_s = time.monotonic()
    server.signal(number)
    server.assert_ends_promptly(begin_s)
    assert server.remaining() == []
    assert_all_end(children)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_that_the_host_has_blocked_for_its_children_ends_the_server_all_the_same(number: signal.Signals) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        server = ServerProcess()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with server:
        server.initialize()
        begin_s = time.monotonic()
        server.signal(number)
        server.assert_ends_promptly(begin_s)


@pytest.mark.parametrize("wait_s", [0.0, 0.03, 0.1, 0.3])
def test_signal_during_the_start_ends_the_server(wait_s: float) -> None:
    with ServerProcess() as server:
        time.sleep(wait_s)  # not an event: any moment of the start is meant
        begin_s = time.monotonic()
        server.signal()
        # before Python has read the first line of the program, only the system's own answer is possible
        assert server.wait() in (0, -signal.SIGTERM)
        assert time.monotonic() - begin_s < 4


def test_second_signal_ends_the_server_at_once() -> None:
    """The first alone takes `exit_limit.EXIT_S` there; of three servers one is enough, for the machine may be busy."""
    took_s: list[float] = []
    while not took_s or (took_s[-1] >= EXIT_S - 0.1 and len(took_s) < 3):
        with ServerProcess(read_stdout=False) as server:
            for _ in range(30):  # the first signal must wait for a reader that stands still
                server.send_request("tools/list")
            server.wait_for_output()
            begin_s = time.monotonic()
            server.signal(signal.SIGTERM)
            server.signal(signal.SIGINT)
            assert server.wait() == 0
            took_s.append(time.monotonic() - begin_s)
    assert took_s[-1] < EXIT_S - 0.1, took_s


def test_signal_that_does_not_interrupt_the_write_to_a_full_pipe_ends_the_server() -> None:
    with ServerProcess(read_stdout=False) as server:
        server.send_call("model_info")
        server.wait_for_output()
        for _ in range(30):
            server.send_request("tools/list")
        assert server.process.stdout is not None
        wait_until_full(server.process.stdout.fileno())
        main, *others = sorted(int(name) for name in os.listdir(f"/proc/{server.pid}/task"))
        assert others, "no thread but the main one, which waits for the pipe"
        begin_s = time.monotonic()
        # the signal's flag is set while the main thread is inside its write, which goes on
        assert ctypes.CDLL(None, use_errno=True).tgkill(main, others[0], int(signal.SIGTERM)) == 0
        server.assert_ends_promptly(begin_s)


def wait_until_full(pipe_fd: int) -> None:
    """Waits until a pipe that nobody reads takes no more."""
    before = -1
    while (held := held_bytes(pipe_fd)) < PIPE_BYTES - select.PIPE_BUF or held != before:
        before = held
        time.sleep(0.1)


def held_bytes(pipe_fd: int) -> int:
    """How many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(pipe_fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_end_of_input_answers_all_queued_calls_and_exits_0(server: ServerProcess) -> None:
    ids = [server.send_call(("model_info", "list_sessions")[number % 2]) for number in range(10)]
    server.close_stdin()
    assert [message["id"] for message in server.remaining()] == ids
    assert server.wait() == 0


# Ending with a model


@pytest.fixture
def engine_server(model: dict[str, str]) -> Iterator[ServerProcess]:
    """A server of the test's own whose model is not loaded yet."""
    with ServerProcess(model) as process:
        process.initialize()
        yield process


def begin_chat(server: ServerProcess, phase: str) -> list[OneProcess]:
    """Sends the call "chat" and waits for a phase of it; returns the server's children at that time."""
    server.send_call("chat_completion", LONG_CHAT, request_id="chat", meta={"progressToken": "t"})
    while True:
        message = server.read_message(LOAD_S)
        assert "method" in message, message
        params = message["params"]
        if params.get("message") == phase or (phase == "generating" and params["progress"] >= 1):
            return server.descendants()


@pytest.mark.parametrize("phase", ["importing vLLM", "loading weights", "generating"])
def test_signal_in_every_phase_answers_the_call_and_leaves_nothing_behind(
    engine_server: ServerProcess, phase: str
) -> None:
    children = begin_chat(engine_server, phase)
    begin_s = time.monotonic()
    engine_server.signal()
    engine_server.assert_ends_promptly(begin_s)
    answers = [message for message in engine_server.remaining() if "id" in message]
    assert [answer["id"] for answer in answers] == ["chat"]
    assert answers[0]["result"]["isError"]
    assert "shutting down" in text_of(answers[0])
    assert_all_end(children)
    assert engine_server.marked() == []


def test_kill_leaves_no_orphan(engine_server: ServerProcess) -> None:
    children = begin_chat(engine_server, "loading weights")
    engine_server.signal(signal.SIGKILL)
    assert engine_server.wait() == -signal.SIGKILL
    assert_all_end([*children, *engine_server.marked()])


def test_server_ends_when_the_reader_leaves_during_a_load(model: dict[str, str]) -> None:
    with ServerProcess(model, read_stdout=False) as server:
        server.send_call("chat_completion", LONG_CHAT, meta={"progressToken": 1})
        server.wait_for_output()  # progress: the load has begun
        children = server.descendants()
        begin_s = time.monotonic()
        server.close_stdout()
        server.assert_ends_promptly(begin_s)
        assert_all_end(children)


def test_end_of_input_during_a_load_answers_all_calls_and_exits_0(engine_server: ServerProcess) -> None:
    short: Json = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    for number in range(3):
        engine_server.send_call("chat_completion", short, request_id=number)
    children = engine_server.descendants()
    engine_server.close_stdin()
    answers = engine_server.remaining(LOAD_S)
    assert [(answer["id"], answer["result"]["isError"]) for answer in answers] == [(n, False) for n in range(3)]
    assert engine_server.wait() == 0
    assert_all_end(children)


def test_end_of_input_ends_a_server_with_a_loaded_model_in_time(engine_server: ServerProcess) -> None:
    engine_server.result("chat_completion", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})
    children = engine_server.descendants()
    begin_s = time.monotonic()
    engine_server.close_stdin()
    engine_server.assert_ends_promptly(begin_s)
    assert_all_end(children)


def test_signal_ends_a_server_that_finishes_its_calls_after_the_end_of_input(engine_server: ServerProcess) -> None:
    """What official clients do: close stdin, wait, send SIGTERM."""
    children = begin_chat(engine_server, "importing vLLM")
    engine_server.close_stdin()
    begin_s = time.monotonic()
    engine_server.signal()
    engine_server.assert_ends_promptly(begin_s)
    assert [message["id"] for message in engine_server.remaining() if "id" in message] == ["chat"]
    assert_all_end(children)


def test_preload_begins_with_initialize(model: dict[str, str]) -> None:
    with ServerProcess({**model, "VLLM_PRELOAD": "1", "VLLM_CALL_TIMEOUT": "1"}) as server:
        server.initialize()
        answer = server.call("model_info")  # in its turn, which the load holds up
        assert "is still" in text_of(answer)
        begin_s = time.monotonic()
        server.signal()
        server.assert_ends_promptly(begin_s)
