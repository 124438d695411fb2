"""The real server over real pipes, as a host would hold it.

    with ServerProcess({"VLLM_CALL_TIMEOUT": "5"}) as server:
        server.initialize()
        answer = server.call("model_info")

The environment is what official clients pass on: six names, and what the test gives. Every line on stdout must be a
JSON object, else the read fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.e2e.lines import lines_of, parsed
from tests.e2e.processes import OneProcess, children_of, processes

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "vllm_server.py"
PASSED_ON = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "OMP_NUM_THREADS")
"""What the official clients let through of their own environment, and what `tests/e2e/conftest.py` sets."""
ANSWER_S = 60.0
"""How long a test waits for what comes at once; long, since the machine may be busy."""
LOAD_S = 240.0
"""How long a test waits for an answer that needs the model."""
EXIT_S = 20.0
EXIT_LIMIT_S = 4.0
"""The contract's 2 seconds from a signal to the end, and as much again for a busy machine."""
MARKER = "SERVER_PROCESS_MARKER"
CLOSED_STDERR = ("sh", "-c", 'exec "$@" 2>&-', "sh")
ALL_CLOSED = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")

Json = dict[str, Any]


class ServerProcess:
    """One server process from its start to its end.

    Arguments:
        environment: variables beside the six that clients pass on.
        arguments: command-line options.
        python: the interpreter; the one that runs the tests by default.
        read_stderr: False leaves stderr unread, as some hosts do.
        read_stdout: False leaves stdout alone until `start_reading`.
        stdin, stdout, stderr: descriptors to use in place of pipes.
        cwd: working folder; an empty one by default.
        wrapper: a command that starts the command it is given, e.g. `CLOSED_STDERR`.
        program: what to run in place of `vllm_server.py`.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        *,
        python: str = sys.executable,
        read_stderr: bool = True,
        read_stdout: bool = True,
        stdin: int = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        cwd: Path | None = None,
        wrapper: Sequence[str] = (),
        program: Path = SERVER,
    ) -> None:
        self.marker = secrets.token_hex(8)
        self.environment = client_environment({**(environment or {}), MARKER: self.marker})
        self._folder = contextlib.ExitStack()
        folder = cwd or Path(self._folder.enter_context(tempfile.TemporaryDirectory(prefix="server-cwd-")))
        self.process = subprocess.Popen(
            [*wrapper, python, str(program), *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self.environment,
            cwd=folder,
            bufsize=0,
        )
        self.raw_lines: list[bytes] = []
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr = bytearray()
        self._threads: list[threading.Thread] = []
        self._next_id = 0
        if read_stdout and self.process.stdout is not None:
            self.start_reading()
        if read_stderr and self.process.stderr is not None:
            self.start_reading_stderr()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            sys.stderr.write(f"--- the server's stderr ---\n{self.stderr[-6000:]}\n")

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """What was read from stderr so far."""
        return self._stderr.decode("utf-8", "replace")

    # Sending

    def send_bytes(self, data: bytes) -> None:
        """Writes bytes to stdin as they are."""
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) or 0 :]

    def send(self, message: Any) -> None:
        """Writes one message as a line."""
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def notify(self, method: str, params: Json | None = None) -> None:
        """Sends a notification."""
        self.send({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})})

    def send_request(self, method: str, params: Json | None = None, request_id: Any = None) -> Any:
        """Sends a request without waiting for its answer; returns its id."""
        if request_id is None:
            self._next_id += 1
            request_id = self._next_id
        params = {} if params is None else params
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        return request_id

    def send_call(
        self, tool: str, arguments: Json | None = None, *, request_id: Any = None, meta: Json | None = None
    ) -> Any:
        """Sends a `tools/call` without waiting for its answer; returns its id."""
        params: Json = {"name": tool, "arguments": arguments or {}}
        return self.send_request("tools/call", params if meta is None else {**params, "_meta": meta}, request_id)

    def close_stdin(self) -> None:
        """Ends the input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close_stdout(self) -> None:
        """Leaves as the reader of stdout; only where `read_stdout` is False."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    # Receiving

    def start_reading(self) -> None:
        """Begins to read stdout."""
        assert self.process.stdout is not None
        self._start(self._read_lines, self.process.stdout)

    def start_reading_stderr(self) -> None:
        """Begins to read stderr."""
        assert self.process.stderr is not None
        self._start(self._read_log, self.process.stderr)

    def read_message(self, timeout_s: float = ANSWER_S) -> Json:
        """The next message on stdout, whatever it is.

        Raises: `EOFError` when stdout has ended, `TimeoutError`, `NotAMessage`.
        """
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no message in {timeout_s} s; stderr: {self.stderr[-2000:]}") from None
        if line is None:
            self._lines.put(None)
            raise EOFError(f"stdout has ended; stderr: {self.stderr[-2000:]}")
        return parsed(line)

    def read_answer(self, request_id: Any, timeout_s: float = ANSWER_S) -> Json:
        """The next message that is no notification; it must be the answer to this request."""
        until_s = time.monotonic() + timeout_s
        while True:
            message = self.read_message(max(0.0, until_s - time.monotonic()))
            if "method" in message:
                continue
            assert message.get("id") == request_id, message
            return message

    def wait_for_output(self, timeout_s: float = ANSWER_S) -> None:
        """Waits until the server has written something, and leaves it in the pipe; only while nobody reads."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        assert readable, self.stderr[-2000:]

    def remaining(self, timeout_s: float = EXIT_S) -> list[Json]:
        """All messages until stdout ends."""
        messages = []
        with contextlib.suppress(EOFError):
            while True:
                messages.append(self.read_message(timeout_s))
        return messages

    # Asking

    def request(
        self, method: str, params: Json | None = None, *, request_id: Any = None, timeout_s: float = ANSWER_S
    ) -> Json:
        """Sends a request and returns the answer, passing over notifications."""
        return self.read_answer(self.send_request(method, params, request_id), timeout_s)

    def call(
        self,
        tool: str,
        arguments: Json | None = None,
        *,
        request_id: Any = None,
        meta: Json | None = None,
        timeout_s: float = LOAD_S,
    ) -> Json:
        """Calls a tool and returns the answer, passing over notifications."""
        return self.read_answer(self.send_call(tool, arguments, request_id=request_id, meta=meta), timeout_s)

    def result(self, tool: str, arguments: Json | None = None, *, timeout_s: float = LOAD_S) -> Json:
        """Calls a tool that must succeed; returns its `structuredContent`."""
        answer = self.call(tool, arguments, timeout_s=timeout_s)
        assert not answer["result"]["isError"], answer
        structured: Json = answer["result"]["structuredContent"]
        return structured

    def initialize(self, version: str = "2025-11-25") -> Json:
        """Settles a legacy revision as clients do; returns the result."""
        client = {"name": "tests", "version": "1.0.0"}
        answer = self.request(
            "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": client}, request_id=0
        )
        self.notify("notifications/initialized")
        result: Json = answer["result"]
        return result

    def assert_serves(self) -> None:
        """The server answers a ping, and has written nothing else before."""
        assert self.request("ping", request_id="serves?") == {"jsonrpc": "2.0", "id": "serves?", "result": {}}

    # Ending

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends a signal to this process alone."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = EXIT_S) -> int:
        """Waits for the end; returns the exit status.

        Raises: `subprocess.TimeoutExpired`.
        """
        status = self.process.wait(timeout_s)
        for thread in self._threads:
            thread.join(timeout_s)
        return status

    def kill(self) -> None:
        """Ends the process and what it left behind, and closes all pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for process in self.marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(EXIT_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._folder.close()

    def marked(self) -> list[OneProcess]:
        """Living processes with this server's mark in their environment, the server itself excepted."""
        needle = f"{MARKER}={self.marker}".encode()
        return [process for process in processes() if process.pid != self.pid and needle in process.environment()]

    def descendants(self) -> list[OneProcess]:
        """Living processes that this server, which must still be there, or its children started, marked or not."""
        found = children_of(self.pid)
        return found + [process for process in self.marked() if process not in found]

    def resident_bytes(self) -> int:
        """The server's resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.pid)

    def assert_ends_promptly(self, since_s: float) -> None:
        """It leaves with status 0, at most `EXIT_LIMIT_S` after `since_s` (`time.monotonic()`)."""
        status = self.wait()
        assert status == 0, status
        assert time.monotonic() - since_s < EXIT_LIMIT_S

    # Threads

    def _start(self, target: Any, pipe: IO[bytes]) -> None:
        thread = threading.Thread(target=target, args=(pipe,), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _read_lines(self, pipe: IO[bytes]) -> None:
        for line in lines_of(pipe):
            self.raw_lines.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def _read_log(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):
            while data := pipe.read(1 << 16):
                self._stderr += data


def client_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that official clients give a server."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed_on, **(given or {})}
