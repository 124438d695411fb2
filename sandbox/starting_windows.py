"""Starts the process of a child on Windows: its socket comes on stdin, and a job ends it with this process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

from operating_system import windows
from sandbox.limits import HARD_MEMORY_BYTES
from sandbox.program import ROOT, Started, command, environment

assert sys.platform == "win32"

if TYPE_CHECKING:
    import socket


def start(theirs: socket.socket) -> Started:
    """See `sandbox.starting.start`."""
    # A virtual environment starts the real interpreter as a child process, which could not use our socket.
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    process = subprocess.Popen(
        command(interpreter, -1, -1, -1),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
        creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW,
    )
    assert process.stdin is not None
    try:
        job = windows.bind_to_this_process(process.pid, HARD_MEMORY_BYTES)
    except (OSError, AttributeError):  # the parent still measures its memory
        job = None
    started = Started(process, lambda: None if job is None else windows.close(job))
    try:
        with process.stdin:
            shared = theirs.share(process.pid)
            process.stdin.write(len(shared).to_bytes(8, "little") + shared)
    except BaseException:
        with contextlib.suppress(OSError):
            process.kill()
        started.release()
        raise
    return started
