from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import os, sys
from mcp_protocol import log
from mcp_protocol.main_loop import MainLoop
from mcp_protocol.stdio import Wire
from mcp_protocol.work_queue import WorkQueue

class Server:
    queue = WorkQueue(lambda call: None, lambda task: None, lambda: None)

    def receive(self, line, connection):
        if line == b"fail":
            raise OSError("a defect")
        os.write(1, line + b"\\n")

    def end_subscriptions(self):
        os.write(1, b"streams ended\\n")

def close():
    os.write(1, b"closed\\n")
    if "close fails" in sys.argv:
        raise RuntimeError("cannot close")

log.configure("INFO", "")
MainLoop(Wire(os.dup(0), os.dup(1)), 1000).run(Server(), close)
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
    assert b"closing the engine failed" in done.stderr


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
