from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcp_protocol.exit_limit import ALARM_S, EXIT_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PROGRAM = """
import os, sys
from mcp_protocol import log
from mcp_protocol.main_loop import MainLoop
from mcp_protocol.stdio import StdioTransport
from mcp_protocol.calls.work_queue import WorkQueue

class Server:
    queue = WorkQueue(lambda call: None, lambda task: None, lambda: None)
    drained = True

    def receive(self, line, connection):
        if line == b"fail":
            raise getattr(__import__("builtins"), sys.argv[-1], OSError)("a defect")
        os.write(1, line + b"\\n")

    def end_subscriptions(self):
        os.write(1, b"streams ended\\n")

def close():
    os.write(1, b"closed\\n")
    if "close fails" in sys.argv:
        raise RuntimeError("cannot close")

log.configure("INFO", "")
MainLoop(StdioTransport(os.dup(0), os.dup(1))).run(Server(), close)
"""


def run(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the loop in a process of its own over this input; what it read goes to stderr with its log."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], input=data, cwd=ROOT, capture_output=True, timeout=120, check=False
    )


def test_end_of_input_closes_the_engine_and_leaves_with_0() -> None:
    done = run(b"a\nb")
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if b"INFO" not in line] == [
        b"a",
        b"b",
        b"streams ended",
        b"closed",
    ]


def test_defect_in_the_loop_is_logged_and_still_closes_the_engine() -> None:
    done = run(b"fail\n")
    assert done.returncode == 1
    assert b"the main loop failed" in done.stderr
    assert b"a defect" in done.stderr
    assert done.stderr.endswith(b"closed\n")


def test_engine_that_cannot_be_closed_does_not_keep_the_process() -> None:
    done = run(b"", "close fails")
    assert done.returncode == 0
    assert b"closing the services failed" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_closes_the_engine_and_leaves_with_0(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert os.read(process.stderr.fileno(), 100) == b"ready\n"
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr.read().endswith(b"closed\n")


def test_whoever_starts_it_on_a_terminal_is_told_what_it_is_and_how_to_stop_it() -> None:
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        os.close(terminal)
        assert process.stderr is not None
        (greeting,) = [process.stderr.readline()]
        assert b"MCP server" in greeting
        assert b"Ctrl-C" in greeting
        os.close(master)
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""


def test_through_a_pipe_nobody_is_greeted() -> None:
    assert b"Ctrl-C" not in run(b"a\n").stderr


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_whatever_ends_the_loop_the_engine_is_closed(kind: str) -> None:
    done = run(b"fail\n", kind)
    assert done.returncode == 1
    assert b"the main loop failed" in done.stderr
    assert done.stderr.endswith(b"closed\n")


HOLDS_THE_LOCK = """
import ctypes, threading, time
libc = ctypes.PyDLL(None)  # its functions keep Python's lock
threading.Timer(float(sys.argv[1]), lambda: libc.sleep(30)).start()
"""


@pytest.mark.parametrize("at_end", ["signal", "input"])
@pytest.mark.slow
def test_lock_that_is_never_given_back_does_not_keep_the_process(at_end: str) -> None:
    """Once the end has begun the lock is taken for good; the system's timer needs none."""
    program = PROGRAM.replace(
        "def close():", f"def close():\n    import time\n{indented(HOLDS_THE_LOCK)}\n    time.sleep(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "0.05"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert os.read(process.stderr.fileno(), 100) == b"ready\n"
        begin_s = time.monotonic()
        if at_end == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(60) == -signal.SIGALRM
        assert ALARM_S - 0.1 < time.monotonic() - begin_s < 4


def test_engine_that_hangs_while_it_is_closed_costs_no_status() -> None:
    program = PROGRAM.replace("def close():", "def close():\n    import time\n    time.sleep(9)")
    begin_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], input=b"", cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
    assert EXIT_S - 0.1 < time.monotonic() - begin_s < 4


def test_nothing_is_collected_on_the_way_out() -> None:
    program = PROGRAM.replace(
        "def close():",
        "class Grave:\n    def __del__(self):\n        os.write(1, b'collected\\n')\n"
        "import gc\ngc.disable()\ngrave = Grave()\ngrave.itself = grave\ndel grave\n"
        "def close():\n    gc.collect()",
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"", cwd=ROOT, capture_output=True, check=False)
    assert b"closed" in done.stderr
    assert b"collected" not in done.stderr


def indented(program: str) -> str:
    """The program as the body of a function."""
    return "\n".join(f"    {line}" for line in program.strip().splitlines())
