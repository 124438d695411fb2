"""The pool of children, and which call uses which of them."""

from __future__ import annotations

import threading
import time
from typing import Any

from sandbox.cancellation import Cancellation
from sandbox.channel import Request
from sandbox.errors import SandboxBusy, SandboxCancelled, SandboxUnavailable
from sandbox.limits import IDLE_S, TICK_S, max_children
from sandbox.memory import IS_ENFORCED
from sandbox.process import Child
from sandbox.result import Result, Take


def _owned(result: Result) -> Result:
    return result if result.data is None else Result(result.value, bytes(result.content))


class Sandbox:
    """A few children that process hostile bytes. Any thread may call it; the first call starts the first child.

    Arguments:
        n_children: how many run at a time.
        idle_s: after how many idle seconds a child ends.
        watch_memory: whether this process measures the memory of children; the default if the system does not limit it.
    """

    def __init__(
        self, n_children: int | None = None, idle_s: float = IDLE_S, watch_memory: bool = not IS_ENFORCED
    ) -> None:
        self._n_children = n_children or max_children()
        self._idle_s = idle_s
        self._watch_memory = watch_memory
        lock = threading.Lock()
        self._freed = threading.Condition(lock)
        """Notified when a child becomes free."""
        self._left = threading.Condition(lock)
        """Notified when children were ended, for the keeper thread."""
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._n_starting = 0
        self._keeper: threading.Thread | None = None
        self._closed = False

    def run(
        self,
        function: str,
        arguments: dict[str, Any],
        *,
        timeout_s: float,
        memory_bytes: int,
        ceiling_bytes: int = 0,
        data: bytes | bytearray | memoryview | None = None,
        cancellation: Cancellation | None = None,
        take: Take = _owned,
    ) -> Any:
        """Calls a function in a child process; returns what `take` returns, by default the function's `Result`.

        Arguments:
            function: its path, "package.module:name".
            arguments: its keyword arguments, of types that msgpack encodes.
            timeout_s: seconds from now, waiting for a child included.
            memory_bytes: memory it may take beyond what its process had and twice the size of `data`.
            ceiling_bytes: how far it may raise that limit with `sandbox.memory.allowance`.
            data: further bytes, passed as the keyword `data`: bytes, or a memoryview that is valid until it returns.
            cancellation: when set, the child is killed.
            take: called with the `Result` before the child is reused; the result's data are in shared memory.

        Raises: one of `sandbox.errors`; `SandboxFailed`, with the exception's name, when the function raised.
        """
        cancellation = cancellation or Cancellation()
        deadline_s = time.monotonic() + timeout_s
        child = self._borrowed(cancellation, deadline_s)
        request = Request(
            function, arguments, timeout_s, memory_bytes, max(memory_bytes, ceiling_bytes), None, len(data or b"")
        )
        try:
            return child.ask(request, data, cancellation, deadline_s, take)
        finally:
            self._returned(child)

    def rest(self) -> None:
        """Ends the idle children; the next call starts a new one."""
        with self._left:
            resting, self._idle = self._idle, []
            self._left.notify()
        for child in resting:
            child.kill()

    def close(self) -> None:
        """Ends all children, including busy ones, and starts no more."""
        with self._left:
            self._closed = True
            resting, self._idle = self._idle, []
            for child in self._busy:
                child.stop()
            self._left.notify()
            self._freed.notify_all()
        for child in resting:
            child.kill()

    def process_ids(self) -> list[int]:
        """The process ids of all children."""
        with self._freed:
            return [child.process_id for child in (*self._idle, *self._busy)]

    def _borrowed(self, cancellation: Cancellation, deadline_s: float) -> Child:
        withdraw = cancellation.on_set(self._wake)
        try:
            with self._freed:
                while True:
                    if self._closed:
                        raise SandboxUnavailable("The sandbox is closed.")
                    if cancellation.is_set():
                        raise SandboxCancelled("The work was cancelled.")
                    while self._idle:
                        child = self._idle.pop()
                        if child.is_usable:
                            self._busy.add(child)
                            return child
                        child.kill()
                    if len(self._busy) + self._n_starting < self._n_children:
                        self._n_starting += 1
                        break
                    if time.monotonic() >= deadline_s:
                        raise SandboxBusy("All children were busy until the deadline.")
                    self._freed.wait(deadline_s - time.monotonic())
        finally:
            withdraw()
        return self._started()

    def _wake(self) -> None:
        with self._freed:
            self._freed.notify_all()

    def _started(self) -> Child:
        child: Child | None = None
        try:
            child = Child(self._watch_memory)
        finally:
            with self._freed:
                self._n_starting -= 1
                if child is not None:
                    self._busy.add(child)
                self._freed.notify_all()
        return child

    def _returned(self, child: Child) -> None:
        with self._freed:
            self._busy.discard(child)
            keep = not self._closed and child.is_usable
            if keep:
                self._idle.append(child)
                if self._keeper is None:
                    self._keeper = threading.Thread(target=self._keep, name="sandbox keeper", daemon=True)
                    self._keeper.start()
            self._freed.notify_all()
        if not keep:
            child.kill()

    def _keep(self) -> None:
        """Ends idle children after `idle_s`; the thread ends when none is left."""
        while True:
            with self._freed:
                old = [child for child in self._idle if child.used_s + self._idle_s <= time.monotonic()]
                self._idle = [child for child in self._idle if child not in old]
                if not old and not self._idle and not self._busy:
                    self._keeper = None
                    return
                if not old:
                    oldest_s = min((child.used_s for child in self._idle), default=time.monotonic())
                    self._left.wait(max(TICK_S, oldest_s + self._idle_s - time.monotonic()))
            for child in old:
                child.kill()
