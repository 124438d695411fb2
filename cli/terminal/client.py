"""The server in this process, without a transport: calls from the main thread, and the signals of a terminal.

A call takes the same way as one from a client (queue, deadline, cancellation, progress, conversion of arguments);
only its messages are not written but put into a queue that the main thread waits on.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec
from msgspec.structs import replace

from handlers.services import Services
from mcp_protocol import exit_limit, log
from mcp_protocol.calls.task import IdleTask, Task
from mcp_protocol.connection import Connection, MessageWriter
from mcp_protocol.jsonrpc import Json, Notification, Request
from mcp_protocol.main_loop import STOP_WORK_S
from mcp_protocol.server import Server
from mcp_protocol.server_info import ServerInfo
from mcp_protocol.tools.toolbox import Tool, Toolbox
from mcp_protocol.versions import LEGACY
from settings import SERVER_DESCRIPTION, SERVER_NAME, SERVER_TITLE, SERVER_VERSION

if TYPE_CHECKING:
    from settings import Settings

LoadTools = Callable[[Services], Toolbox]

TICK_S = 0.25
"""How often the user sees that time passes."""
REPEAT_S = 0.2
"""How long a signal may wait for its handler."""
MAX_RESULT_BYTES = 64 << 20
"""Nothing stands between a result and the user that could not take it."""
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(Exception):
    """A signal came while the main thread waited.

    Arguments: `number`, the signal; Ctrl-C is SIGINT.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that tells of this signal."""
        return 128 + self.number


class CallRefused(Exception):
    """The server did not run the call; `str()` says why."""


class Watcher(Protocol):
    """What is told while a call runs."""

    def progress(self, params: Json) -> None:
        """A progress notification came."""

    def tick(self) -> None:
        """Some time has passed."""


class Client:
    """Calls tools in this process. For the main thread alone.

    Arguments:
        settings: all settings. Their time limit for calls does not apply: it is for hosts that give up, and here a
            user waits, also for the load of the model.
        load_tools: makes the table of tools.
        ends_on_interrupt: whether Ctrl-C ends the process, and not only the running call.

    Attributes:
        settings: as they apply here.
        problems: errors in the settings; while there are any, every call returns them.
    """

    def __init__(self, settings: Settings, load_tools: LoadTools, *, ends_on_interrupt: bool) -> None:
        self._ends_on_interrupt = ends_on_interrupt
        self._events: queue.SimpleQueue[Json | int] = queue.SimpleQueue()
        self._may_raise = False
        self._is_ending = False
        self._handled_s = 0.0
        self._last_id = 0
        self._ending_fd, self._end_fd = os.pipe()
        self.settings = _for_one_user(settings)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        with _interrupts_blocked():
            self._repeat_signals()
            problem = log.configure(settings.server.log_level, settings.server.log_file)
        self.problems = (*settings.problems, *([problem] if problem else ()))
        for text in settings.warnings:
            log.log("WARNING", text)
        self._services = Services(self.settings, self._ending_fd)
        self._tools: Toolbox | None = None
        self._load_tools = load_tools
        self._writer = _Inbox(self._events)
        self._connection = Connection(self._writer)
        self._connection.settled_version = LEGACY[0]
        self._connection.initialized = True
        self._server = Server(
            ServerInfo(SERVER_NAME, SERVER_TITLE, SERVER_VERSION, SERVER_DESCRIPTION, ""),
            self.settings.server,
            self._toolbox,
            problems=self.problems,
            idle_task=IdleTask(Task("idle timeout", self._services.give_back_memory), self._services.idle_due_s),
            budgets=self._services.message_budgets,
        )

    def tools(self) -> list[Json]:
        """The entries of `tools/list`."""
        tools: list[Json] = []
        params: Json = {}
        while True:
            page = self._request("tools/list", params)
            tools += page["tools"]
            if "nextCursor" not in page:
                return tools
            params = {"cursor": page["nextCursor"]}

    def tool(self, name: str) -> Tool:
        """The row of a tool that is on offer."""
        tool = self._toolbox().find(name)
        assert tool is not None
        return tool

    def call(self, tool: str, arguments: Json, watcher: Watcher) -> Json:
        """Runs one tool and returns its result; a signal cancels it.

        Raises: `Interrupted`; `CallRefused`.
        """
        return self._request("tools/call", {"name": tool, "arguments": arguments}, watcher)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it, a signal raises `Interrupted` at once; for reading from the user."""
        self._forget_events()
        self._may_raise = True
        try:
            yield
        finally:
            self._may_raise = False

    def end(self, status: int) -> NoReturn:
        """Ends the work that still runs, and the process."""
        self._arm(status)
        with contextlib.suppress(Exception):
            self._server.queue.stop(STOP_WORK_S)
        try:
            self._services.close()
        except BaseException:
            log.log_failure("closing the services")
        log.flush(0.2)
        os._exit(status)

    def _toolbox(self) -> Toolbox:
        if self._tools is None:
            self._tools = self._load_tools(self._services)
        return self._tools

    def _request(self, method: str, params: Json, watcher: Watcher | None = None) -> Json:
        self._forget_events()
        self._last_id += 1
        request = Request(self._last_id, method, {**params, "_meta": {"progressToken": self._last_id}})
        with _interrupts_blocked():
            self._server.handle(request, self._connection, self._writer)
        try:
            while True:
                message = self._next_message(watcher)
                if message.get("id") == request.id:
                    break
                if watcher is not None and message.get("params", {}).get("progressToken") == request.id:
                    watcher.progress(message["params"])
        except Interrupted:
            cancelled = Notification("notifications/cancelled", {"requestId": request.id})
            self._server.handle(cancelled, self._connection, self._writer)
            raise
        if "error" in message:
            raise CallRefused(message["error"]["message"])
        result: Json = message["result"]
        return result

    def _forget_events(self) -> None:
        """Drops what is left of an earlier call, such as a second Ctrl-C; raises `Interrupted` if the process ends."""
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if isinstance(event, int) and self._is_ending:
                    raise Interrupted(event)

    def _next_message(self, watcher: Watcher | None) -> Json:
        """The next message of the server; answers overdue calls meanwhile."""
        while True:
            for call, text in self._server.queue.overdue():
                self._server.fail(call, text, "timeout")
            deadline_s = self._server.queue.next_deadline_s()
            left_s = TICK_S if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            try:
                event = self._events.get(timeout=min(TICK_S, left_s))
            except queue.Empty:
                if watcher is not None:
                    watcher.tick()
                continue
            if isinstance(event, int):
                raise Interrupted(event)
            return event

    def _repeat_signals(self) -> None:
        """Unblocks the signals, and from now on repeats each until its handler has run: `input` does not notice one
        that comes just before it waits for a key."""
        if sys.platform == "win32":
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(_SIGNALS) - {signal.SIGINT})  # the parent may have blocked them
        read_fd, write_fd = os.pipe()
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        main_thread = threading.get_ident()

        def repeat() -> None:
            while not self._is_ending:
                (number,) = os.read(read_fd, 1)
                came_s = time.monotonic()
                time.sleep(REPEAT_S)
                if self._handled_s < came_s - REPEAT_S and not self._is_ending:
                    signal.pthread_kill(main_thread, number)

        threading.Thread(target=repeat, name="signals", daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._handled_s = time.monotonic()
        if self._is_ending:
            os._exit(128 + number)
        if number != signal.SIGINT or self._ends_on_interrupt:
            self._arm(128 + number)
        if self._may_raise:
            raise Interrupted(number)
        self._events.put(number)

    def _arm(self, status: int) -> None:
        """Starts the time limit of the end, once; the engine's guard learns of it too."""
        if not self._is_ending:
            self._is_ending = True
            exit_limit.arm(status)
            os.write(self._end_fd, b"\0")


def _for_one_user(settings: Settings) -> Settings:
    server = replace(settings.server, call_timeout_s=0.0, max_concurrent=1, max_result_bytes=MAX_RESULT_BYTES)
    engine = settings.engine
    if server.log_level not in ("DEBUG", "INFO"):  # vLLM's own progress would be in the way of ours
        quiet = {"use_tqdm_on_load": False, **engine.extra_engine_args}
        engine = replace(engine, extra_engine_args=quiet)
    return replace(settings, server=server, engine=engine)


class _Inbox(MessageWriter):
    """Puts the server's messages into a queue."""

    def __init__(self, events: queue.SimpleQueue[Json | int]) -> None:
        self._events = events

    def send(self, message: Json) -> None:
        self._events.put(message)

    def respond(self, line: bytes) -> None:
        message: Any = msgspec.json.decode(line)
        self._events.put(message)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Threads that start within it, and their child processes, never get the Ctrl-C of the terminal.

    The terminal sends it to all processes of this program, where it would end vLLM's.
    """
    if sys.platform == "win32":
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
