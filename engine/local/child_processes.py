"""The processes that vLLM starts, and their end in every case.

They are: one that inspects model classes, the engine core, a worker per GPU, a tracker of shared memory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile

from engine.local import reaper

# Without the prefix VLLM_: vLLM warns of unknown variables with it.
MARK_VARIABLE = "MCP_ENGINE_MARK"
SOCKETS_VARIABLE = "VLLM_RPC_BASE_PATH"
MAX_FOLDER_LENGTH = 70
"""A socket's path has at most 107 bytes (unix(7)), and vLLM's names have 37."""


class ChildProcesses:
    """All processes started after `watch`, and a guard process that kills them when this process has ended.

    Arguments:
        ending_fd: the reading end of a pipe that gets a byte when this process is to end, -1 for none; see
            `engine.local.reaper`.
    """

    def __init__(self, ending_fd: int = -1) -> None:
        self._ending_fd = ending_fd
        self._mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._guard: subprocess.Popen[bytes] | None = None
        self._sockets = ""

    def watch(self) -> None:
        """Marks all later children, gives their sockets a folder of their own, and starts the guard.

        A second call only sets the mark again, and creates that folder again where it is gone. Does nothing on systems
        other than Linux.
        """
        if sys.platform != "linux":
            return
        os.environ[MARK_VARIABLE] = self._mark  # another engine may have set its own since
        if self._guard is not None:
            if self._sockets:  # a cleaner of temporary files may have removed it
                os.makedirs(self._sockets, mode=0o700, exist_ok=True)
            return
        os.environ["SPT_NOENV"] = "1"  # otherwise setproctitle, which vLLM uses, overwrites the mark
        # /proc shows a forked child with its parent's initial environment, which has no mark, but with this inherited
        # descriptor. An exec closes the descriptor, and from then on /proc shows the environment with the mark.
        os.memfd_create(self._mark)
        self._make_folder()
        self._guard = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                reaper.__file__,
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
        """Ids of the running children without the guard."""
        return reaper.marked_processes(self._mark) if self._guard is not None else []

    def kill(self) -> None:
        """Kills every child except the guard and the tracker of shared memory, which ends with this process."""
        if self._guard is not None:
            reaper.kill_marked(self._mark, spare_trackers=True)
        if multiprocessing := sys.modules.get("multiprocessing"):
            multiprocessing.active_children()  # reaps them

    def end_guard(self) -> None:
        """Ends the guard; to be called when no more children can be started."""
        if self._guard is None:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._guard.kill()
            self._guard.wait(1)
        self._guard = None
        reaper.remove_folder(self._sockets)
        if self._sockets and os.environ.get(SOCKETS_VARIABLE) == self._sockets:
            del os.environ[SOCKETS_VARIABLE]
        self._sockets = ""
        if os.environ.get(MARK_VARIABLE) == self._mark:
            del os.environ[MARK_VARIABLE]

    def _make_folder(self) -> None:
        """Creates the folder for vLLM's sockets, which otherwise stay among the temporary files of a killed process."""
        if os.environ.get(SOCKETS_VARIABLE):
            return
        with contextlib.suppress(OSError):  # vLLM then reports what is wrong with the temporary folder
            folder = tempfile.mkdtemp(prefix="vllm-")
            if len(os.fsencode(folder)) > MAX_FOLDER_LENGTH:
                os.rmdir(folder)
            else:
                self._sockets = os.environ[SOCKETS_VARIABLE] = folder
