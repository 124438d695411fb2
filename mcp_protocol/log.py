"""The log: lines on stderr or in a file, which never block the server.

Some clients never read the server's stderr, and a pipe holds 64 KiB: a thread that writes more blocks forever. On a
full disk, a print in a library raises. So unless stderr is a terminal, the process writes into its own pipe. One thread
reads the pipe; a second one writes to the client or the file, and drops and counts what they do not accept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from operating_system.files import BINARY

PIPE_BYTES = 1 << 20
"""Size of the process's own pipe on Linux: room for what C code prints while it holds the GIL."""
BACKLOG_BYTES = 1 << 20
"""Output that may wait for a slow client; further output is dropped."""

_MARK = b"\0"
"""Written by `flush`: what was written before it has been collected. It is not passed on."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a full disk, which may have room again later."""
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_threshold = _LEVELS["INFO"]
_pump: _Pump | None = None


def start(level: str, log_file: str, problems: Sequence[str], warnings: Sequence[str]) -> tuple[str, ...]:
    """Configures the log and writes the problems and warnings of the settings into it.

    Returns `problems`, followed by the problem of the log file, if any.
    """
    problem = configure(level, log_file)
    all_problems = (*problems, problem) if problem else tuple(problems)
    for text in all_problems:
        log("ERROR", text)
    for text in warnings:
        log("WARNING", text)
    return all_problems


def configure(level: str, log_file: str) -> str | None:
    """Sends the log to `log_file`, or makes stderr non-blocking; returns the problem with the file, if any."""
    global _threshold, _pump
    _threshold = _LEVELS[level]
    problem = None
    if log_file:
        try:
            fd = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY, 0o600)
        except OSError as error:
            problem = f"The setting VLLM_LOG_FILE names a file that cannot be written: {error.strerror}."
        else:
            os.dup2(fd, 2)
            os.dup2(fd, 1)
            os.close(fd)
    if log_file or not stat.S_ISCHR(os.fstat(2).st_mode):
        _pump = _Pump()
    return problem


def log(level: str, text: str) -> None:
    """Writes one line; control characters are escaped, so that input cannot forge lines."""
    if _LEVELS[level] < _threshold:
        return
    line = f"{time.strftime('%H:%M:%S')} {level} {escaped(text)}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8", "backslashreplace"))


def log_failure(name: str) -> None:
    """Logs the current exception with its traceback. Never raises, even without memory or if the exception's `str`
    fails."""
    with contextlib.suppress(BaseException):
        import traceback  # loaded only for internal errors

        log("ERROR", f"{name} failed:\n{traceback.format_exc()}")


def escaped(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def configure_logging() -> None:
    """Configures Python's `logging` to write the same lines; must run before a library logs."""
    import logging  # takes 8 ms, which `initialize` does not need

    class OneLine(logging.Formatter):
        """Keeps a message on one line; a traceback follows on indented lines, which no message can imitate."""

        def formatMessage(self, record: logging.LogRecord) -> str:
            return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname} {record.name}: {escaped(record.message)}"

        def formatException(self, ei: Any) -> str:
            return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).splitlines())

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    handler.setLevel(_threshold)  # vLLM lowers the level of some records after their logger has passed them
    logging.basicConfig(level=_threshold, handlers=[handler])


def flush(timeout_s: float) -> None:
    """Waits at most `timeout_s` until the whole log is written."""
    if _pump is not None:
        _pump.flush(timeout_s)


class _Pump:
    """Two threads between the process's stderr and the client's."""

    def __init__(self) -> None:
        self._stderr_fd = os.dup(2)
        self._read_fd, write_fd = os.pipe()
        _enlarge(write_fd)
        os.dup2(write_fd, 2)
        os.dup2(write_fd, 1)
        os.close(write_fd)
        self._waiting: deque[bytes] = deque()
        self._n_waiting_bytes = 0
        self._n_dropped_bytes = 0
        self._n_marks = 0
        self._changed = threading.Condition()
        for target in (self._collect, self._forward):
            threading.Thread(target=target, name=f"log{target.__name__}", daemon=True).start()

    def _collect(self) -> None:
        while True:
            data = os.read(self._read_fd, 1 << 16)
            n_marks = data.count(_MARK)
            if n_marks:
                data = data.replace(_MARK, b"")
            with self._changed:
                self._n_marks += n_marks
                if self._n_waiting_bytes + len(data) > BACKLOG_BYTES:
                    self._n_dropped_bytes += len(data)
                elif data:
                    self._waiting.append(data)
                    self._n_waiting_bytes += len(data)
                self._changed.notify_all()

    def _forward(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]
                dropped, self._n_dropped_bytes = self._n_dropped_bytes, 0
            if dropped:
                data = f"[{dropped} bytes of log dropped: the output was not read]\n".encode() + data
            try:
                _write_all(self._stderr_fd, data)
            except OSError as error:
                if error.errno not in _FULL:
                    return  # stderr is closed; `_collect` continues and drops
                with self._changed:
                    self._n_dropped_bytes += dropped + len(self._waiting[0])
            with self._changed:
                self._n_waiting_bytes -= len(self._waiting.popleft())
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> None:
        with self._changed:
            n_marks = self._n_marks + 1
        with contextlib.suppress(OSError):
            os.write(2, _MARK)
        with self._changed:
            self._changed.wait_for(lambda: self._n_marks >= n_marks and not self._waiting, timeout_s)


def _enlarge(pipe_fd: int) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # the system may not allow a pipe of this size
            fcntl.fcntl(pipe_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.05)
