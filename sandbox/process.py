"""One child process, in its parent: start, ask, kill."""

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

from operating_system.machine import resident_bytes
from sandbox.area import IS_AVAILABLE, Area
from sandbox.cancellation import Cancellation
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
from sandbox.limits import INLINE_BYTES, KEPT_AREA_BYTES, MAX_CALLS, START_TIMEOUT_S, TICK_S, WORN_BYTES
from sandbox.memory import IS_ENFORCED
from sandbox.result import Result, Take
from sandbox.starting import start


class Child:
    """A child process. One thread at a time may use it.

    Raises: `SandboxUnavailable` if it cannot be started.
    """

    def __init__(self, watch_memory: bool = not IS_ENFORCED) -> None:
        self._watch_memory = watch_memory
        self._n_calls = 0
        self._is_worn = False
        self.used_s = time.monotonic()
        """When it was last used."""
        self._area: Area | None = None
        self._release: Callable[[], None] | None = None
        self._peer, theirs = socket.socketpair()
        try:
            self._area = Area.made() if IS_AVAILABLE else None
            self._process, self._release = start(theirs, self._area.fd if self._area is not None else -1)
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
        """Whether it can run another call."""
        return not self._is_worn and self._process.poll() is None

    def ask(self, request: Request, data: Any, cancellation: Cancellation, deadline_s: float, take: Take) -> Any:
        """Runs one call in the child; see `Sandbox.run`. After any error but `SandboxFailed` the child is dead."""
        limit_bytes = request.ceiling_bytes + 3 * request.n_data
        resting_bytes = self._resident_bytes() if self._watch_memory else 0

        def timeout_s() -> float:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise SandboxTimeout("The work took too long.")
            if not self._watch_memory:
                return left_s
            if self._resident_bytes() > resting_bytes + limit_bytes:
                raise SandboxMemory("The work took too much memory.")
            return min(left_s, TICK_S)

        withdraw = cancellation.on_set(self.stop)
        try:
            if not self._is_ready:
                self._wait_until_ready()
            send(self._peer, self._with_data(request, data), timeout_s)
            reply = msgspec.msgpack.decode(receive(self._peer, timeout_s), type=Reply)
            self._is_worn = reply.kept_bytes > WORN_BYTES or self._n_calls >= MAX_CALLS or reply.kind == "MemoryError"
            return self._taken(reply, take)
        except SandboxFailed:
            raise
        except SandboxError:
            self.kill()
            raise
        except (EOFError, OSError, msgspec.DecodeError, ValueError) as error:
            ended = self._ended()
            raise (SandboxCancelled("The work was cancelled.") if cancellation.is_set() else ended) from error
        except BaseException:
            self.kill()
            raise
        finally:
            withdraw()
            if cancellation.is_set():  # `stop` may still be about to run: it must not hit the next call
                self.kill()
            self._n_calls += 1
            self.used_s = time.monotonic()

    def stop(self) -> None:
        """Ends the process, from any thread; a thread that waits for its reply gets an error."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def kill(self) -> None:
        """Ends the process at once, and waits for its end."""
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._close()

    def _resident_bytes(self) -> int:
        return resident_bytes(self.process_id) or 0

    def _wait_until_ready(self) -> None:
        """Waits for the child's first message. The start does not count as the work's time: a cold disk may take longer
        than a short deadline leaves."""
        end_s = time.monotonic() + START_TIMEOUT_S

        def timeout_s() -> float:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise SandboxUnavailable("A process did not start in time.")
            return left_s

        receive(self._peer, timeout_s)
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
                    raise SandboxCrashed("The work returned less data than announced.")
                with self._area.view(reply.n_data) as view:
                    return take(Result(reply.value, view))
            return take(Result(reply.value, reply.data))
        finally:
            if self._area is not None:
                self._area.cut(KEPT_AREA_BYTES)

    def _ended(self) -> SandboxError:
        """The error for the end of the process."""
        self.kill()
        status = self._process.returncode
        if sys.platform != "win32" and status == -signal.SIGXCPU:
            return SandboxTimeout("The work took too long.")
        return SandboxCrashed(f"The process that did the work ended (status {status}).")

    def _close(self) -> None:
        self._is_worn = True
        self._peer.close()
        if self._area is not None:
            self._area.close()
        release, self._release = self._release, None
        if release is not None:
            release()
