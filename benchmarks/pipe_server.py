"""A server as a child process with two pipes, with as little as possible between the clock and the bytes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

Json = dict[str, Any]
Cpus = frozenset[int]

LOG_TAIL_BYTES = 3000

INITIALIZE: Json = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmarks", "version": "1"},
}


class ServerFailed(Exception):
    """The measured process exited or returned an error, so it cannot be measured."""


def request_line(method: str, params: Json | None = None, request_id: int = 0) -> bytes:
    """One request as the bytes of its line."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}) + b"\n"


def tool_line(name: str, arguments: Json, request_id: int = 0, progress_token: int | None = None) -> bytes:
    """One `tools/call` as the bytes of its line."""
    meta: Json = {} if progress_token is None else {"_meta": {"progressToken": progress_token}}
    return request_line("tools/call", {"name": name, "arguments": arguments, **meta}, request_id)


def result_of(line: bytes) -> Json:
    """The result in a reply's line.

    Raises: `ServerFailed` for an error of the protocol or of the tool.
    """
    message = msgspec.json.decode(line)
    result = message.get("result")
    if not isinstance(result, dict) or result.get("isError"):
        raise ServerFailed(line[:500].decode(errors="replace"))
    return result


@contextlib.contextmanager
def running_on(cpus: Cpus | None) -> Iterator[None]:
    """Pins this thread and the children that it starts to some CPUs."""
    before = os.sched_getaffinity(0)
    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class PipeServer:
    """A running server; use it as a context manager, which kills it at the end.

    Arguments: its command; the CPUs it may use (None: this process's); its whole environment (None: this one's); the
    folder it runs in (None: this one).
    `started_s` is `time.perf_counter()` just before the process was made.
    """

    def __init__(
        self,
        command: Sequence[str],
        cpus: Cpus | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        # Logs go to a file, so that no server waits for its log to be read.
        self._log_fd = os.memfd_create("log")
        with running_on(cpus):
            self.started_s = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log_fd,
                bufsize=0,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in_fd = self._process.stdin.fileno()
        self._out_fd = self._process.stdout.fileno()
        self._buffered = b""

    def __enter__(self) -> PipeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the process and waits for its end."""
        self._process.kill()
        self._process.communicate()
        os.close(self._log_fd)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Writes one line, or several at once."""
        sent = os.write(self._in_fd, line)
        while sent < len(line):
            sent += os.write(self._in_fd, line[sent:])

    def receive(self) -> bytes:
        """Reads one line.

        Raises: `ServerFailed` when the process ended.
        """
        while (end := self._buffered.find(b"\n")) < 0:
            data = os.read(self._out_fd, 1 << 20)
            if not data:
                raise ServerFailed(
                    f"{self._process.args!r} ended without an answer:\n{self.log_tail().decode(errors='replace')}"
                )
            self._buffered += data
        line, self._buffered = self._buffered[:end], self._buffered[end + 1 :]
        return line

    def log(self) -> bytes:
        """All that the process has logged."""
        return os.pread(self._log_fd, os.fstat(self._log_fd).st_size, 0)

    def log_tail(self) -> bytes:
        """The end of what the process has logged."""
        n_bytes = os.fstat(self._log_fd).st_size
        return os.pread(self._log_fd, LOG_TAIL_BYTES, max(0, n_bytes - LOG_TAIL_BYTES))

    def ask(self, line: bytes) -> bytes:
        """Writes one request and reads the next line, which is its reply where no notifications come."""
        self.send(line)
        return self.receive()

    def initialize(self) -> None:
        """Sends `initialize`."""
        result_of(self.ask(request_line("initialize", INITIALIZE)))
        self.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
