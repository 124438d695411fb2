"""The children and who uses which of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sandbox.channel import Request
from sandbox.errors import SandboxBusy, SandboxCancelled, SandboxUnavailable
from sandbox.limits import IDLE_S, TICK_S, max_children
from sandbox.memory import IS_ENFORCED
from sandbox.process import Child
from sandbox.result import Result, Take


def _never() -> bool:
    return False


def _owned(result: Result) -> Result:
    return result if result.data is None else Result(result.value, bytes(result.content))


class Sandbox:
    """A few children that work on hostile bytes. Any thread may call it; nothing is started before the first call.

    `idle_s` is how long an unused child stays; `watch_memory`, whether children are measured from here, which they are
    anyway where the system does not bound them.
    """

    def __init__(
        self, n_children: int | None = None, idle_s: float = IDLE_S, watch_memory: bool = not IS_ENFORCED
    ) -> None:
        self._n_children = n_children or max_children()
        self._idle_s = idle_s
        self._watch_memory = watch_memory
        lock = threading.Lock()
        self._freed = threading.Condition(lock)
        """Whoever waits for a child."""
        self._left = threading.Condition(lock)
        """The keeper: children were ended by others."""
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
        cancelled: Callable[[], bool] = _never,
        take: Take = _owned,
    ) -> Any:
        """Calls a function in a child and returns what `take` makes of its result, by default the `Result` itself.

        Arguments: `function` as "package.module:name"; its keyword `arguments`, of what msgpack knows; `data`, further
        bytes, which it gets as its keyword `data` (bytes or a memoryview that holds until it returns). It may take
        `memory_bytes` beyond what its process had and twice the data, and raise that to `ceiling_bytes` with
        `sandbox.memory.allowance`. `timeout_s` counts from now, waiting for a child included. `cancelled` may be called
        from this thread at any time until the end. `take` gets the function's `Result`, whose data are shared memory,
        before the child is given to anybody else.

        Raises: one of `sandbox.errors`: `SandboxFailed` where the function raised, with the exception's name.
        """
        deadline_s = time.monotonic() + timeout_s
        child = self._borrowed(cancelled, deadline_s)
        request = Request(
            function, arguments, timeout_s, memory_bytes, max(memory_bytes, ceiling_bytes), None, len(data or b"")
        )
        try:
            return child.ask(request, data, cancelled, deadline_s, take)
        finally:
            self._returned(child)

    def rest(self) -> None:
        """Ends the children that do nothing now; the next call starts one anew."""
        with self._left:
            resting, self._idle = self._idle, []
            self._left.notify()
        for child in resting:
            child.kill()

    def close(self) -> None:
        """Ends all children, also those that work, and starts no more."""
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
        """The children that run now."""
        with self._freed:
            return [child.process_id for child in (*self._idle, *self._busy)]

    def _borrowed(self, cancelled: Callable[[], bool], deadline_s: float) -> Child:
        with self._freed:
            while True:
                if self._closed:
                    raise SandboxUnavailable("The sandbox is closed.")
                while self._idle:
                    child = self._idle.pop()
                    if child.is_usable:
                        self._busy.add(child)
                        return child
                    child.kill()
                if len(self._busy) + self._n_starting < self._n_children:
                    self._n_starting += 1
                    break
                if cancelled():
                    raise SandboxCancelled("The work was cancelled.")
                if time.monotonic() >= deadline_s:
                    raise SandboxBusy("The work had to wait too long for others.")
                self._freed.wait(TICK_S)
        return self._started()

    def _started(self) -> Child:
        child: Child | None = None
        try:
            child = Child(self._watch_memory)
        finally:
            with self._freed:
                self._n_starting -= 1
                if child is not None:
                    self._busy.add(child)
                self._freed.notify()
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
            self._freed.notify()
        if not keep:
            child.kill()

    def _keep(self) -> None:
        """Ends children that nobody has used for a while; the thread ends when there is none left."""
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
