"""One child, seen from its parent: started, asked, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from sandbox.area import IS_AVAILABLE, Area
from sandbox.channel import Reply, Request, receive, send
from sandbox.errors import (
    SandboxCancelled,
    SandboxCrashed,
    SandboxError,
    SandboxFailed,
    SandboxMemory,
    SandboxTimeout,
    SandboxUnavailable,
)
from sandbox.limits import (
    INLINE_BYTES,
    KEPT_AREA_BYTES,
    MAX_CALLS,
    START_TIMEOUT_S,
    TICK_S,
    WORN_BYTES,
)
from sandbox.memory import IS_ENFORCED, resident_bytes
from sandbox.result import Result, Take

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PASSED_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
"""What an interpreter and its libraries may need to start at all. Nothing else of the environment gets in, no key."""
CHILD_VARIABLES = {
    # Threads reserve address space, and decoding a picture has no use for more than one.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    # glibc keeps what a picture of a few megapixels took for the next one: fresh pages would cost 12 ms each time.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "PYTHONUTF8": "1",
}


class Child:
    """A child process. One thread at a time may use it.

    Raises: `SandboxUnavailable` where it cannot be started.
    """

    def __init__(self, watch_memory: bool = not IS_ENFORCED) -> None:
        self._watch_memory = watch_memory
        self._n_calls = 0
        self._is_worn = False
        self.used_s = time.monotonic()
        """When it was used last."""
        self._area: Area | None = None
        self._lifeline = -1
        self._peer, theirs = socket.socketpair()
        try:
            self._peer.settimeout(TICK_S)
            self._area = Area.made() if IS_AVAILABLE else None
            self._process = self._started(theirs)
        except OSError as error:
            self._close()
            raise SandboxUnavailable(f"No process could be started: {error.strerror}.") from error
        finally:
            theirs.close()
        self._is_ready = False

    @property
    def process_id(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it may be asked again."""
        return not self._is_worn and self._process.poll() is None

    def ask(self, request: Request, data: Any, cancelled: Callable[[], bool], deadline_s: float, take: Take) -> Any:
        """Has it do one call; see `Sandbox.run`. After any error but `SandboxFailed` it is dead."""
        limit_bytes = request.ceiling_bytes + 3 * request.n_data
        resting_bytes = resident_bytes(self.process_id) if self._watch_memory else 0

        def look() -> None:
            if cancelled():
                raise SandboxCancelled("The work was cancelled.")
            if time.monotonic() >= deadline_s:
                raise SandboxTimeout("The work took too long.")
            if self._watch_memory and resident_bytes(self.process_id) > resting_bytes + limit_bytes:
                raise SandboxMemory("The work took too much memory.")

        try:
            if not self._is_ready:
                self._wait_until_ready(cancelled)
            send(self._peer, self._with_data(request, data), look)
            reply = msgspec.msgpack.decode(receive(self._peer, look), type=Reply)
            self._is_worn = reply.kept_bytes > WORN_BYTES or self._n_calls >= MAX_CALLS or reply.kind == "MemoryError"
            return self._taken(reply, take)
        except SandboxFailed:
            raise
        except SandboxError:
            self.kill()
            raise
        except (EOFError, OSError, msgspec.DecodeError, ValueError) as error:
            raise self._ended() from error
        except BaseException:
            self.kill()
            raise
        finally:
            self._n_calls += 1
            self.used_s = time.monotonic()

    def stop(self) -> None:
        """Ends the process, from any thread: whoever waits for its answer sees the end."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def kill(self) -> None:
        """Ends the process at once, and waits until it is gone."""
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._close()

    def _started(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        program = [sys.executable or os.path.realpath("/proc/self/exe"), "-I", "-S"]
        program += ["-B"] if sys.dont_write_bytecode else []
        program += ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
        # Relative entries count from a folder that the child does not have.
        paths = [ROOT, *(path for path in sys.path if os.path.isabs(path) and path != HERE)]
        environment = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ} | CHILD_VARIABLES
        child = os.path.join(HERE, "child.py")
        if os.name != "posix":
            return self._started_on_windows([*program, child, "-1", "-1", "-1", *paths], theirs, environment)
        theirs_end, self._lifeline = os.pipe()
        try:
            fds = (theirs.fileno(), theirs_end, self._area.fd if self._area is not None else -1)
            return subprocess.Popen(
                [*program, child, *map(str, fds), *paths],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                pass_fds=[fd for fd in fds if fd >= 0],
                start_new_session=True,  # Ctrl-C on a terminal is for the server alone
            )
        finally:
            os.close(theirs_end)

    def _started_on_windows(
        self, program: list[str], theirs: socket.socket, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
        process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment,
            creationflags=flags,
        )
        shared: bytes = theirs.share(process.pid)  # type: ignore[attr-defined,unused-ignore]
        assert process.stdin is not None
        process.stdin.write(len(shared).to_bytes(8, "little") + shared)
        process.stdin.flush()
        return process

    def _wait_until_ready(self, cancelled: Callable[[], bool]) -> None:
        """The start does not count as the work's time: a cold disk may take longer than a short deadline leaves."""
        end_s = time.monotonic() + START_TIMEOUT_S

        def look() -> None:
            if cancelled():
                raise SandboxCancelled("The work was cancelled.")
            if time.monotonic() >= end_s:
                raise SandboxUnavailable("A process did not start in time.")

        receive(self._peer, look)
        self._is_ready = True

    def _with_data(self, request: Request, data: Any) -> Request:
        if data is None:
            return request
        if self._area is None or len(data) <= INLINE_BYTES:
            return msgspec.structs.replace(request, data=bytes(data))
        self._area.view(len(data))[:] = data
        self._area.forget(KEPT_AREA_BYTES)
        return request

    def _taken(self, reply: Reply, take: Take) -> Any:
        try:
            if reply.kind == "MemoryError":
                raise SandboxMemory("The work took too much memory.")
            if reply.kind is not None:
                raise SandboxFailed(reply.kind, reply.text)
            if reply.n_data and reply.data is None and self._area is not None:
                if os.fstat(self._area.fd).st_size < reply.n_data:
                    raise SandboxCrashed("The work gave back less than it promised.")
                with self._area.view(reply.n_data) as view:
                    return take(Result(reply.value, view))
            return take(Result(reply.value, reply.data))
        finally:
            if self._area is not None:
                self._area.cut(KEPT_AREA_BYTES)

    def _ended(self) -> SandboxError:
        """Why there is no process any more."""
        self.kill()
        status = self._process.returncode
        if os.name == "posix" and status == -signal.SIGXCPU:
            return SandboxTimeout("The work took too long.")
        return SandboxCrashed(f"The process that did the work ended (status {status}).")

    def _close(self) -> None:
        self._is_worn = True
        self._peer.close()
        if self._area is not None:
            self._area.close()
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
