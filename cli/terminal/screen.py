"""What the user sees: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_protocol.stdio import StdioTransport

Json = dict[str, Any]

COLUMNS = 80
REPEAT_S = 10.0
"""Where stderr is no terminal: the time between two lines about the same step."""
ELAPSED_S = 2
"""A step that takes this long is shown with its time."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """The user's stdout and stderr, as they were when the process started.

    Arguments:
        transport: the stdout that nothing else in the process can use.
        error_fd: a descriptor of stderr that the log does not redirect.

    Attributes:
        is_terminal: whether stdout is a terminal.
        columns: its width.
    """

    def __init__(self, transport: StdioTransport, error_fd: int) -> None:
        self._transport = transport
        self._error_fd = error_fd
        self.columns = _columns_of(transport.out_fd)
        self._line_columns = _columns_of(error_fd)
        self.is_terminal = os.isatty(transport.out_fd)
        self._has_line = os.isatty(error_fd)
        self._line = ""
        self._step = ""
        self._step_since_s = time.monotonic()
        self._written_s = 0.0

    def write(self, text: str) -> None:
        """Writes to stdout; a terminal gets no control characters.

        Raises: `ReaderGone` when nobody reads stdout any more.
        """
        self._erase()
        self._transport.write(encoded(printable(text) if self.is_terminal else text))

    def complain(self, text: str) -> None:
        """Writes a line to stderr."""
        self._erase()
        self._write_error(f"{printable(text)}\n")

    def prompt(self, text: str) -> None:
        """Writes a prompt to stderr."""
        self._erase()
        self._write_error(text)

    def begin(self, step: str) -> None:
        """Begins a step that progress may replace by another."""
        self._step, self._step_since_s, self._written_s = step, time.monotonic(), 0.0

    def progress(self, step: str) -> None:
        """Shows what is being done: on a terminal in one line that is written again, else in a line now and then."""
        now_s = time.monotonic()
        if without_numbers(step) != without_numbers(self._step):
            self._step_since_s = now_s
            self._written_s = 0.0
        self._step = step
        if self._has_line:
            self._show()
        elif now_s - self._written_s >= REPEAT_S or not self._written_s:
            self._written_s = now_s
            self._write_error(f"{printable(step)}\n")

    def tick(self) -> None:
        """Shows how long the step has taken; called again and again while nothing happens."""
        if self._has_line and self._step:
            self._show()

    def end(self) -> None:
        """Removes the line of progress."""
        self._step = ""
        self._erase()

    def _show(self) -> None:
        seconds = int(time.monotonic() - self._step_since_s)
        has_time = seconds >= ELAPSED_S and not re.search(r"\d s\b", self._step)  # a job's progress has its own time
        text = f"{self._step}, {seconds} s" if has_time else self._step
        text = printable(" ".join(text.split()))[: max(10, self._line_columns - 1)]
        if text != self._line:
            # The cursor returns to the start of the line, so that a line of the log replaces this one.
            self._write_error(f"\r{text.ljust(len(self._line))}\r")
            self._line = text

    def _erase(self) -> None:
        if self._line:
            self._write_error(f"\r{' ' * len(self._line)}\r")
            self._line = ""

    def _write_error(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads stderr
            os.write(self._error_fd, encoded(text))


def printable(text: str) -> str:
    """The text without control characters, which could act on the terminal: what a model writes is not trusted."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r", ""))


def encoded(text: str) -> bytes:
    """UTF-8, with the bytes of a path that is not; any other lone surrogate becomes a question mark."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _columns_of(fd: int) -> int:
    """The width of a terminal; of anything else, the usual one."""
    try:
        return os.get_terminal_size(fd).columns or COLUMNS
    except OSError:
        return COLUMNS


def without_numbers(text: str) -> str:
    """What two messages about the same step have in common."""
    return re.sub(r"[\d.]+", "", text)
