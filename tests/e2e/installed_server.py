"""An installed server and its processes over pipes, on every platform and with the standard library alone.

`tests.e2e.server_process` does more, for a clone on Linux.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.lines import lines_of, parsed

Json = dict[str, Any]
ANSWER_S = 60.0
"""How long an answer or an exit may take; long, since the machine may be busy and have no bytecode files yet."""
CLOSE_S = 5.0
"""How long a server that failed may take to exit before it is killed."""
REVISION = "2025-11-25"
HELLO: Json = {"protocolVersion": REVISION, "capabilities": {}, "clientInfo": {"name": "tour", "version": "1"}}


@dataclass(frozen=True)
class Installed:
    """A server that can be started.

    Arguments:
        command: the program and its first arguments.
        environment: all variables of the server.
        folder: the working folder, empty at first; files go there too.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path

    def start(self, *options: str, **settings: str) -> Server:
        """Starts the server with command-line options and settings."""
        return Server(self, options, settings)

    def run(self, *options: str, **settings: str) -> tuple[int, str]:
        """Runs the command to its end without input; returns its exit status and what it printed."""
        done = subprocess.run(
            [*self.command, *options],
            env={**self.environment, **settings},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ANSWER_S,
        )
        return done.returncode, done.stdout.decode("utf-8", "replace").replace(os.linesep, "\n")


class Server:
    """One process of the server over pipes; at the end of the block its input ends, and it must exit with status 0."""

    def __init__(self, installed: Installed, options: Sequence[str], settings: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [*installed.command, *options],
            env={**installed.environment, **settings},
            cwd=installed.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr = bytearray()
        self._readers = [threading.Thread(target=target, daemon=True) for target in (self._read, self._read_stderr)]
        for reader in self._readers:
            reader.start()
        self._n_requests = 0

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None and self.process.returncode is None:
                self.end()
        finally:
            self._close()
            if error is not None:
                sys.stderr.write(f"--- the server's stderr ---\n{self.stderr[-3000:]}\n")

    @property
    def stderr(self) -> str:
        """What the server wrote to stderr so far."""
        return self._stderr.decode("utf-8", "replace").replace("\r\n", "\n")

    def end(self) -> None:
        """Ends the input; the server must exit with status 0."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(ANSWER_S)
        assert status == 0, f"exit status {status}: {self.stderr[-3000:]}"

    def terminate(self) -> None:
        """Ends the process as a service manager does; its status is 0, except where the system ends it unasked."""
        self.process.terminate()
        status = self.process.wait(ANSWER_S)
        assert status == 0 or sys.platform == "win32", f"exit status {status}: {self.stderr[-3000:]}"

    def initialize(self) -> Json:
        """Begins the conversation; returns the result."""
        result = self.request("initialize", HELLO)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return result

    def request(self, method: str, params: Json | None = None) -> Json:
        """Sends a request and returns its result; an error fails."""
        self._n_requests += 1
        self._send({"jsonrpc": "2.0", "id": self._n_requests, "method": method, "params": params or {}})
        until_s = time.monotonic() + ANSWER_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"no answer to {method} in {ANSWER_S} s") from None
            assert line is not None, f"the server ended instead of answering {method}"
            message = parsed(line)
            if message.get("id") == self._n_requests:
                return result_of(message)

    def call(self, tool: str, arguments: Json) -> Json:
        """Calls a tool that must succeed; returns its result as JSON."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        assert not result["isError"], result["content"]
        told: Json = result.get("structuredContent") or json.loads(result["content"][0]["text"])
        return told

    def _close(self) -> None:
        """Ends the process, which may write to its log before, and closes the pipes."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(ANSWER_S)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _send(self, message: Json) -> None:
        assert self.process.stdin is not None
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[self.process.stdin.write(data) or 0 :]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in lines_of(self.process.stdout):
            self._lines.put(line)
        self._lines.put(None)

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in lines_of(self.process.stderr):
            self._stderr += line


def result_of(message: Json) -> Json:
    """The result of an answer; an error fails."""
    assert "result" in message, message
    result: Json = message["result"]
    return result
