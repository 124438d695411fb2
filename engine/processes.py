"""The processes that the engine starts, and their certain end.

vLLM starts several: one that inspects model classes, the engine core, a worker per GPU, a tracker of shared memory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile

from engine import guard

# Not VLLM_…: vLLM warns of variables with its prefix that it does not know.
MARK_VARIABLE = "MCP_ENGINE_MARK"
SOCKETS_VARIABLE = "VLLM_RPC_BASE_PATH"
MAX_FOLDER_LENGTH = 70
"""A socket's path has at most 107 bytes (unix(7)), and vLLM's names have 37."""


class ChildProcesses:
    """Everything that this process starts from `watch` on, and the guard that outlives it to kill the rest.

    Arguments: the reading end of a pipe in which a byte lies when this process is to end, -1 for none; see `guard`.
    """

    def __init__(self, ending_fd: int = -1) -> None:
        self._ending_fd = ending_fd
        self._mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._guard: subprocess.Popen[bytes] | None = None
        self._sockets = ""

    def watch(self) -> None:
        """Marks all later children, gives their sockets a folder of their own, and starts the guard. A second call only
        sees that the folder is still there. Needs Linux, else does nothing."""
        if not hasattr(os, "memfd_create"):
            return
        if self._guard is not None:
            if self._sockets:  # what cleans up temporary files may have taken it for forgotten
                os.makedirs(self._sockets, mode=0o700, exist_ok=True)
            return
        os.environ[MARK_VARIABLE] = self._mark
        os.environ["SPT_NOENV"] = "1"  # else setproctitle, which vLLM's processes use, writes over the mark
        # A forked child shows its parent's first environment, without the mark; this descriptor it inherits. An exec
        # closes it, and then the environment is there.
        os.memfd_create(self._mark)
        self._make_folder()
        self._guard = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                guard.__file__,
                str(os.getpid()),
                self._mark,
                self._sockets,
                str(self._ending_fd),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            pass_fds=[self._ending_fd] if self._ending_fd >= 0 else [],
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
        guard.remove_folder(self._sockets)
        if self._sockets and os.environ.get(SOCKETS_VARIABLE) == self._sockets:
            del os.environ[SOCKETS_VARIABLE]
        self._sockets = ""
        if os.environ.get(MARK_VARIABLE) == self._mark:
            del os.environ[MARK_VARIABLE]

    def _make_folder(self) -> None:
        """vLLM's sockets would lie among all other temporary files, and stay there when a process is killed."""
        if os.environ.get(SOCKETS_VARIABLE):
            return
        with contextlib.suppress(OSError):  # then vLLM tells what is wrong with the folder of temporary files
            folder = tempfile.mkdtemp(prefix="vllm-")
            if len(os.fsencode(folder)) > MAX_FOLDER_LENGTH:
                os.rmdir(folder)
            else:
                self._sockets = os.environ[SOCKETS_VARIABLE] = folder
