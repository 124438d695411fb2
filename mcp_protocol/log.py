"""The log: short lines on stderr or in a file, never a reason for the server to stand still.

Some hosts never read the stderr they gave us, and a pipe holds 64 KiB: whoever writes beyond that waits for ever. And
where a file takes no more, because its disk is full, a print of some library fails, and with it whatever printed. So
unless stderr is a terminal, everything in the process writes into a pipe of our own; one thread empties it and a
second one hands on what the host or the file takes, dropping and counting the rest.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

PIPE_BYTES = 1 << 20
"""Size of our own pipe: room for what C code prints while it holds Python's lock and the first thread cannot run."""
BACKLOG_BYTES = 1 << 20
"""What waits for a host that is slow; beyond it, new output is dropped."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a file says that may take more again later."""
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_threshold = _LEVELS["INFO"]
_pump: _Pump | None = None


def start(level: str, log_file: str, problems: Sequence[str], warnings: Sequence[str]) -> tuple[str, ...]:
    """Configures the log and writes what is wrong with the settings into it.

    Returns `problems`, with the log's own at the end if it has one.
    """
    problem = configure(level, log_file)
    found = (*problems, problem) if problem else tuple(problems)
    for text in found:
        log("ERROR", text)
    for text in warnings:
        log("WARNING", text)
    return found


def configure(level: str, log_file: str) -> str | None:
    """Sends the log to `log_file`, or makes stderr unable to block; returns a problem with the file, if any."""
    global _threshold, _pump
    _threshold = _LEVELS[level]
    problem = None
    if log_file:
        try:
            fd = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
    """Writes what went wrong, with its traceback; called while an exception is handled. Never raises: the thread that
    asks has to go on, also where there is no memory or the exception cannot even be shown."""
    with contextlib.suppress(BaseException):
        import traceback  # only a defect pays for it

        log("ERROR", f"{name} failed:\n{traceback.format_exc()}")


def escaped(text: str) -> str:
    """The text on one line, without characters that a terminal obeys."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def configure_logging() -> None:
    """Gives Python's `logging` the same lines; called before the first module that uses it does any work."""
    import logging  # 8 ms that the answer to `initialize` does without

    class OneLine(logging.Formatter):
        """Keeps a record's message on one line; a traceback follows on indented lines of its own, which no message can
        look like."""

        def formatMessage(self, record: logging.LogRecord) -> str:
            return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname} {record.name}: {escaped(record.message)}"

        def formatException(self, ei: Any) -> str:
            return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).splitlines())

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    handler.setLevel(_threshold)  # the engine lowers the level of some records after their logger has let them pass
    logging.basicConfig(level=_threshold, handlers=[handler])


def flush(timeout_s: float) -> None:
    """Waits until the host has taken the log, at most so long."""
    if _pump is not None:
        _pump.flush(timeout_s)


class _Pump:
    """Two threads between the process's stderr and the host's."""

    def __init__(self) -> None:
        self._host_fd = os.dup(2)
        self._read_fd, write_fd = os.pipe()
        with contextlib.suppress(OSError):  # the system may allow no pipe of this size
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.dup2(write_fd, 2)
        os.dup2(write_fd, 1)
        os.close(write_fd)
        self._waiting: deque[bytes] = deque()
        self._n_waiting_bytes = 0
        self._n_dropped_bytes = 0
        self._changed = threading.Condition()
        for target in (self._collect, self._hand_on):
            threading.Thread(target=target, name=f"log{target.__name__}", daemon=True).start()

    def _collect(self) -> None:
        while True:
            select.select([self._read_fd], [], [])
            with self._changed:  # read under the lock, so that `flush` sees each byte either here or there
                data = os.read(self._read_fd, 1 << 16)
                if self._n_waiting_bytes + len(data) > BACKLOG_BYTES:
                    self._n_dropped_bytes += len(data)
                    continue
                self._waiting.append(data)
                self._n_waiting_bytes += len(data)
                self._changed.notify_all()

    def _hand_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]
                dropped, self._n_dropped_bytes = self._n_dropped_bytes, 0
            if dropped:
                data = f"[{dropped} bytes of log dropped: nobody took them]\n".encode() + data
            try:
                _write_all(self._host_fd, data)
            except OSError as error:
                if error.errno not in _FULL:
                    return  # the host closed its end; _collect goes on and drops
                with self._changed:
                    self._n_dropped_bytes += dropped + len(self._waiting[0])
            with self._changed:
                self._n_waiting_bytes -= len(self._waiting.popleft())
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(self._is_empty, timeout_s)

    def _is_empty(self) -> bool:
        return not self._waiting and not select.select([self._read_fd], [], [], 0)[0]


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.05)
