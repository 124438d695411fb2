"""The server's commands on a pseudo-terminal, as a user at a keyboard would run them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.e2e.server_process import ANSWER_S, LOAD_S, ServerProcess

COLUMNS = 120
CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"
CONTROLLING = ("setsid", "--ctty")
"""Makes the terminal the one whose Ctrl-C ends the process."""


class TerminalProcess(ServerProcess):
    """A command whose stdin, stdout and stderr are one terminal; `shown` is all that it has written.

    Arguments:
        environment: variables beside the six that clients pass on.
        arguments: the words of the command line.
        cwd: working folder; an empty one by default.
    """

    columns = COLUMNS

    def __init__(self, environment: Mapping[str, str], arguments: Sequence[str], *, cwd: Path | None = None) -> None:
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        self._bytes = bytearray()
        self._changed = threading.Condition()
        self._seen = 0
        try:
            super().__init__(
                environment, arguments, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, wrapper=CONTROLLING
            )
        finally:
            os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._reader.join(ANSWER_S)
        os.close(self._fd)

    @property
    def shown(self) -> str:
        """All that was written to the terminal, with the ends of lines as programs write them."""
        return self._bytes.decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def stderr(self) -> str:
        """The same, for reports of failed tests."""
        return self.shown

    def type(self, text: str) -> None:
        """Presses keys."""
        os.write(self._fd, text.encode())

    def enter(self, line: str) -> None:
        """Types a line."""
        self.type(line + ENTER)

    def see(self, text: str, timeout_s: float = LOAD_S) -> str:
        """Waits until a text appears behind what was seen before; returns what came before it."""
        with self._changed:
            self._changed.wait_for(lambda: text in self._unseen() or not self._reader.is_alive(), timeout_s)
            unseen = self._unseen()
            assert text in unseen, f"{text!r} is not shown: {unseen[-3000:]!r}"
            before = unseen.partition(text)[0]
            self._seen += len(before) + len(text)
        return before

    def rest(self) -> str:
        """All that was not seen yet; once the process has ended."""
        self._reader.join(ANSWER_S)
        return self._unseen()

    def _unseen(self) -> str:
        return self.shown[self._seen :]

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(self._fd, 1 << 16):
                with self._changed:
                    self._bytes += data
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
