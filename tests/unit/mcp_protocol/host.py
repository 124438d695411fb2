"""A host for unit tests: the server's own thread is the test's, what it writes goes into a queue."""

from __future__ import annotations

import json
import queue
import threading
from asyncio import CancelledError
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mcp_protocol.calls.call import Call
from mcp_protocol.connection import Connection, MessageWriter, RequestContext
from mcp_protocol.server import Server
from mcp_protocol.server_info import ServerInfo
from mcp_protocol.stdio import LineTooLong, StdioTransport
from mcp_protocol.tools.toolbox import MAX_TIMEOUT_S, Tool, Toolbox, text_block
from mcp_protocol.versions import Revision
from settings.server import ServerSettings
from tests.mcp_results import Json, check_result, envelope
from tests.waiting import wait_until

WAIT_S = 30.0
ICON = {"src": "data:image/png;base64,AAAA", "mimeType": "image/png", "sizes": ["48x48"]}
INFO = ServerInfo("test-server", "Test server", "1.2.3", "For tests.", "Use it in tests.", [ICON])
NO_ID = object()


class RecordingWriter(MessageWriter):
    """Keeps the messages that are sent, as objects."""

    def __init__(self, sent: list[Any] | None = None) -> None:
        self.sent: list[Any] = [] if sent is None else sent

    def send(self, message: Json) -> None:
        """Keeps one message."""
        self.sent.append(message)


def make_context(sent: list[Any] | None = None, revision: str = "2025-11-25", **options: Any) -> RequestContext:
    """The context of a request whose messages go into a list."""
    writer = RecordingWriter(sent)
    return RequestContext(options.pop("connection", Connection(writer)), writer, Revision(revision), **options)


class RecordingTransport(StdioTransport):
    """A wire whose lines can be taken from `lines`."""

    def __init__(self) -> None:
        super().__init__(-1, -1)
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def write(self, line: bytes) -> None:
        """Keeps the line."""
        self.lines.put(line)


class EchoArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `echo`."""

    text: Annotated[str, Meta(description="What to say.")]
    times: Annotated[int, Meta(ge=1, le=100)] = 1
    fraction: float | None = None


class EchoResult(msgspec.Struct):
    """Result of `echo`."""

    text: str
    figure: float | None


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of the tools that take none."""


class LimitedArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `limited`."""

    timeout_s: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S)] | None = None


class BigArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `big`: sizes of its text and of its preview."""

    n_text: int
    n_preview: int = 0


class ThrowArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `throw`: the name of what it raises."""

    kind: str


class Panic(BaseException):
    """What bindings of other languages raise past every `except Exception`; it cannot even be shown."""

    def __str__(self) -> str:
        raise SystemExit(3)


THROWN: dict[str, type[BaseException]] = {
    kind.__name__: kind for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError, StopIteration, Panic)
}


class Gates:
    """What the tools of the tests wait for and tell."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.go_on = threading.Event()
        self.ended = threading.Event()
        self.calls: list[Call] = []


def _echo(arguments: EchoArguments, call: Call, gates: Gates) -> EchoResult:
    gates.calls.append(call)
    return EchoResult(arguments.text * arguments.times, arguments.fraction)


def _wait(arguments: NoArguments, call: Call, gates: Gates) -> list[Json]:
    """Ends when the gate opens or the call is to stop."""
    gates.running.set()
    while not gates.go_on.wait(0.002) and not call.cancellation.is_set():
        pass
    gates.ended.set()
    return [text_block("stopped" if call.cancellation.is_set() else "waited")]


def _load(arguments: NoArguments, call: Call, gates: Gates) -> list[Json]:
    """Stays in a phase that nothing interrupts until the gate opens."""
    call.enter_phase("loading weights")
    gates.running.set()
    if not gates.go_on.wait(WAIT_S):
        raise TimeoutError("a test forgot to open the gate")
    call.enter_phase(None)
    gates.ended.set()
    return [text_block("loaded")]


def _tell(arguments: NoArguments, call: Call, gates: Gates) -> list[Json]:
    call.log("debug", "a detail")
    call.log("warning", "a warning")
    call.progress(1, 3, "one")
    call.progress(1, 3, "one again")
    call.progress(3, 3, "three")
    return [text_block("told")]


def _crash(arguments: NoArguments, call: Call, gates: Gates) -> list[Json]:
    raise RuntimeError("secret at 0x7f00")


def _throw(arguments: ThrowArguments, call: Call, gates: Gates) -> list[Json]:
    raise THROWN[arguments.kind]


def _unencodable(arguments: NoArguments, call: Call, gates: Gates) -> list[Json]:
    return [{"type": "text", "text": object()}]


def _big(arguments: BigArguments, call: Call, gates: Gates) -> list[Json]:
    preview = {"type": "image", "data": "A" * arguments.n_preview, "mimeType": "image/png"}
    return [text_block("x" * arguments.n_text), *([preview] if arguments.n_preview else [])]


def _tool(name: str, handler: Callable[..., Any], arguments: type[msgspec.Struct] = NoArguments) -> Tool:
    return Tool(name, name.title(), f"Does {name}.", arguments, handler)


TOOLS = (
    Tool("echo", "Echo", "Says it again.", EchoArguments, _echo, EchoResult, lambda result: str(result.text)),
    _tool("wait", _wait),
    _tool("load", _load),
    _tool("tell", _tell),
    _tool("crash", _crash),
    _tool("throw", _throw, ThrowArguments),
    _tool("unencodable", _unencodable),
    _tool("big", _big, BigArguments),
    _tool("limited", _wait, LimitedArguments),
)


def _explain(error: BaseException) -> str:
    str(error)  # the real one looks at it too
    return "Something went wrong."


def split_settings(options: Json) -> tuple[ServerSettings, Json]:
    """The options that are settings of the server, and the others."""
    names = set(ServerSettings.__struct_fields__)
    given = {name: value for name, value in options.items() if name in names}
    return ServerSettings(**given), {name: value for name, value in options.items() if name not in names}


class Host:
    """Talks to a server in this process."""

    def __init__(self, **options: Any) -> None:
        self.wire = RecordingTransport()
        self.gates = Gates()
        self.n_toolbox_loads = 0
        self.connection = Connection(self.wire)
        server_settings, options = split_settings(options)
        self.server = Server(INFO, server_settings, self._toolbox, **options)

    def _toolbox(self) -> Toolbox:
        self.n_toolbox_loads += 1
        return Toolbox(TOOLS, self.gates, _explain)

    def line(self, line: bytes | LineTooLong) -> None:
        """Gives the server one line."""
        self.server.receive(line, self.connection)

    def send(self, method: str, params: Any = None, request_id: Any = 1) -> None:
        """Sends a request; `NO_ID` as its id leaves the member out."""
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        self.line(
            json.dumps(
                {k: v for k, v in message.items() if v is not NO_ID and not (k == "params" and v is None)}
            ).encode()
        )

    def notify(self, method: str, params: Any = None) -> None:
        """Sends a notification."""
        self.send(method, params, NO_ID)

    def call(self, tool: str, arguments: Json | None = None, request_id: Any = 1, meta: Json | None = None) -> None:
        """Sends a `tools/call`."""
        params: Json = {"name": tool, "arguments": arguments or {}}
        self.send("tools/call", params if meta is None else {**params, "_meta": meta}, request_id)

    def next(self) -> Json:
        """The next message from the server."""
        line = self.wire.lines.get(timeout=WAIT_S)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        message: Json = json.loads(line)
        return message

    def request(self, method: str, params: Any = None, request_id: Any = 1) -> Json:
        """Sends a request and returns the answer to it."""
        self.send(method, params, request_id)
        answer = self.next()
        assert answer["id"] == (None if request_id is NO_ID else request_id)
        return answer

    def initialize(self, version: str = "2025-11-25") -> Json:
        """Settles a legacy revision."""
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        return check_result("initialize", "2025-11-25", self.request("initialize", params))

    def assert_silent(self) -> None:
        """Nothing has been written: the next line is the answer to a ping, which goes out at once."""
        answer = self.request("ping", {}, "silence?")
        assert answer == {"jsonrpc": "2.0", "id": "silence?", "result": {}}

    def wait_until_idle(self) -> None:
        """Waits until the worker has ended all that was queued before; unlike `drain`, it queues nothing itself."""
        wait_until(lambda: not self.server.queue.is_busy)

    def drain(self) -> None:
        """Waits until the worker has done all that was queued before, and none of it was answered since."""
        self.call("echo", {"text": "drained"}, "drained?")
        answer = self.next()
        assert answer["id"] == "drained?"


def modern(meta: Json | None = None, **params: Any) -> Json:
    """The parameters of a modern request."""
    return {**params, "_meta": envelope(**(meta or {}))}


def error_of(answer: Json) -> tuple[int, str]:
    """Code and message of an error."""
    assert "result" not in answer
    return answer["error"]["code"], answer["error"]["message"]
