"""The processes that the engine starts, and their certain end.

vLLM starts several: one that inspects model classes, the engine core, a worker per GPU, a tracker of shared memory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys

from engine import guard

# Not VLLM_…: vLLM warns of variables with its prefix that it does not know.
MARK_VARIABLE = "MCP_ENGINE_MARK"


class ChildProcesses:
    """Everything that this process starts from `watch` on, and the guard that outlives it to kill the rest."""

    def __init__(self) -> None:
        self._mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._guard: subprocess.Popen[bytes] | None = None

    def watch(self) -> None:
        """Marks all later children and starts the guard; a second call does nothing. Needs Linux, else does nothing."""
        if self._guard is not None or not hasattr(os, "memfd_create"):
            return
        os.environ[MARK_VARIABLE] = self._mark
        os.environ["SPT_NOENV"] = "1"  # else setproctitle, which vLLM's processes use, writes over the mark
        # A forked child shows its parent's first environment, without the mark; this descriptor it inherits. An exec
        # closes it, and then the environment is there.
        os.memfd_create(self._mark)
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), self._mark],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )

    def ids(self) -> list[int]:
        """Ids of the children that run now, the guard excepted."""
        return guard.marked_processes(self._mark) if self._guard is not None else []

    def kill(self) -> None:
        """Kills every child but the guard and the tracker of shared memory, which ends with this process."""
        if self._guard is not None:
            guard.kill_marked(self._mark, spare_trackers=True)
        if multiprocessing := sys.modules.get("multiprocessing"):
            multiprocessing.active_children()  # reaps them

    def end_guard(self) -> None:
        """Ends the guard; for an orderly end, when nothing can be started any more."""
        if self._guard is None:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._guard.kill()
            self._guard.wait(1)
        self._guard = None
        if os.environ.get(MARK_VARIABLE) == self._mark:
            del os.environ[MARK_VARIABLE]
