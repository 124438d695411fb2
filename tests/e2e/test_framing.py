"""Lines in, lines out, whatever the stream looks like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.lines import parsed
from tests.e2e.server_process import ROOT, ServerProcess, client_environment
from tests.mcp_results import check_result

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
PONG = {"jsonrpc": "2.0", "id": 1, "result": {}}
INITIALIZE = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'


def shell(command: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a line as people type it, in the repository's folder."""
    return subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=client_environment(), capture_output=True, timeout=120, check=False
    )


def assert_one_initialize_answer(done: subprocess.CompletedProcess[bytes]) -> None:
    """One line, right, and a clean end."""
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 1
    assert check_result("initialize", "2025-11-25", parsed(done.stdout))["protocolVersion"] == "2025-11-25"


def test_one_line_piped_in_by_a_shell_is_answered_and_the_server_exits() -> None:
    assert_one_initialize_answer(shell(f"echo '{INITIALIZE}' | {sys.executable} vllm_server.py"))


def test_python_without_msgspec_hands_over_to_the_venv_beside_the_server() -> None:
    found = shell("python3 -c 'import msgspec'")
    if found.returncode == 0:
        pytest.skip("this machine's python3 has msgspec, so nothing is handed over")
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("there is no .venv to hand over to")
    assert_one_initialize_answer(shell(f"echo '{INITIALIZE}' | python3 vllm_server.py"))


@pytest.mark.parametrize(
    ("data", "n_pongs"),
    [
        pytest.param(PING + b"\n", 1, id="one line"),
        pytest.param(PING + b"\n" + PING + b"\n", 2, id="two messages in one write"),
        pytest.param(PING + b"\r\n", 1, id="CRLF"),
        pytest.param(b"\n\r\n \t\n" + PING + b"\n\n", 1, id="blank lines around"),
        pytest.param(b"\xef\xbb\xbf" + PING + b"\n", 1, id="byte order mark"),
        pytest.param(b"  " + PING + b"  \n", 1, id="spaces around"),
        pytest.param(PING[:-1] + b',"params":{"text":"' + "é漢\u2028😀".encode() + b'"}}\n', 1, id="UTF-8"),
        pytest.param(PING[:-1] + b',"params":{"text":"\\ud83d"}}\n', 1, id="half a surrogate pair"),
        pytest.param(PING[:-1] + b',"params":{"text":"' + b"x" * 3_000_000 + b'"}}\n', 1, id="3 MB"),
    ],
)
def test_stream_is_cut_into_messages(shared_server: ServerProcess, data: bytes, n_pongs: int) -> None:
    shared_server.send_bytes(data)
    assert [shared_server.read_message() for _ in range(n_pongs)] == [PONG] * n_pongs
    shared_server.assert_serves()


def test_message_may_come_byte_by_byte(shared_server: ServerProcess) -> None:
    for byte in PING + b"\n":
        shared_server.send_bytes(bytes((byte,)))
    assert shared_server.read_message() == PONG


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"hello", id="not JSON"),
        pytest.param(b'{"id":1', id="cut off"),
        pytest.param(b'{"id":1,"method":"\xff"}', id="invalid UTF-8"),
        pytest.param(b"\x00\x01\x02", id="control characters"),
        pytest.param(b"[" * 1_000_000, id="a million lists deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100,000 objects deep"),
        pytest.param(b'{"id":' + b"9" * 5000 + b"}", id="integer of 5,000 digits"),
        pytest.param(b'{"id":1,"params":NaN}', id="NaN"),
    ],
)
def test_bad_line_gets_one_error_without_id_and_the_next_is_served(shared_server: ServerProcess, line: bytes) -> None:
    shared_server.send_bytes(line + b"\n" + PING + b"\n")
    answer = shared_server.read_message()
    assert "id" not in answer
    assert answer["error"]["code"] == -32700
    assert shared_server.read_message() == PONG


def test_line_of_300_mb_is_skipped_in_bounded_memory() -> None:
    with ServerProcess() as server:
        server.assert_serves()
        before_bytes = server.resident_bytes()
        server.send_bytes(b'{"id":1,"method":"')
        for _ in range(300):
            server.send_bytes(b"x" * 1_000_000)
        server.send_bytes(b'"}\n' + PING + b"\n")
        answer = server.read_message()
        assert answer["error"]["code"] == -32600
        assert f"longer than {64 << 20} bytes" in answer["error"]["message"]
        assert server.read_message() == PONG
        assert server.resident_bytes() - before_bytes < (64 + 16) << 20


def test_default_limit_lets_a_large_message_pass(server: ServerProcess) -> None:
    server.send_bytes(PING[:-1] + b',"params":{"image":"' + b"A" * 40_000_000 + b'"}}\n')
    assert server.read_message() == PONG


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["without newline", "with newline"])
def test_last_line_is_answered_before_the_end(server: ServerProcess, end: bytes) -> None:
    server.send_bytes(PING + b"\n" + PING.replace(b'"id":1', b'"id":2') + end)
    server.close_stdin()
    assert [message["id"] for message in server.remaining()] == [1, 2]
    assert server.wait() == 0


def test_nothing_in_nothing_out(server: ServerProcess) -> None:
    server.close_stdin()
    assert server.remaining() == []
    assert server.wait() == 0


def test_stdin_from_a_file_and_stdout_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(PING + b"\n")
    done = shell(f"{sys.executable} vllm_server.py < '{tmp_path}/in' > '{tmp_path}/out'")
    assert done.returncode == 0
    assert json.loads((tmp_path / "out").read_bytes()) == PONG
