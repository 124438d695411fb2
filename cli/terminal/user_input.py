"""What the user writes: lines with line editing on a terminal, or all that a pipe or a file has."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.terminal.words import UsageError
from operating_system.waiting import wait_until_readable
from settings import working_folder

if TYPE_CHECKING:
    from cli.terminal.client import Client
    from cli.terminal.screen import Screen
    from mcp_protocol.stdio import StdioTransport

READ_BYTES = 1 << 16


class UserInput:
    """The stdin that nothing else in the process can use, and files. While it waits, a signal raises `Interrupted`.

    Arguments:
        transport: has stdin.
        client: gets the signals.
        screen: shows the prompt where there is no line editing.
    """

    def __init__(self, transport: StdioTransport, client: Client, screen: Screen) -> None:
        self._transport = transport
        self._client = client
        self._screen = screen
        self._rest = b""
        self._has_ended = False
        self.is_terminal = os.isatty(transport.in_fd)
        self._has_editing = self.is_terminal and screen.is_terminal
        if self._has_editing:
            _edit_lines()

    def file(self, path: str) -> str:
        """The text of a file, or of stdin for "-"; raises `UsageError`."""
        try:
            if path == "-":
                data = self._all()
            else:
                with open(working_folder.absolute(os.path.expanduser(path)), "rb") as file:
                    data = file.read()
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UsageError(f"{path} has no text in UTF-8.") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UsageError(f"{path} cannot be read: {reason}.") from None

    def line(self, prompt: str) -> str | None:
        """The next line without its end; None at the end of the input."""
        with self._client.interruptible():
            if not self._has_editing:
                if self.is_terminal:
                    self._screen.prompt(prompt)
                return self._next_line()
            try:
                with self._on_standard_streams():
                    return input(prompt)
            except EOFError:
                return None
            except UnicodeDecodeError:
                return ""

    def _all(self) -> bytes:
        with self._client.interruptible():
            while data := self._read():
                self._rest += data
        data, self._rest = self._rest, b""
        return data

    def _read(self) -> bytes:
        """Waits for input; empty at its end."""
        while True:
            wait_until_readable(self._transport.in_fd)
            try:
                return os.read(self._transport.in_fd, READ_BYTES)
            except BlockingIOError:  # another process has made it non-blocking, and has read first
                continue

    def _next_line(self) -> str | None:
        while b"\n" not in self._rest and not self._has_ended:
            data = self._read()
            self._has_ended = not data
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        if self._has_ended and not line and not self._rest:
            return None
        return line.decode("utf-8", "replace").removesuffix("\r")

    @contextlib.contextmanager
    def _on_standard_streams(self) -> Iterator[None]:
        """Line editing works only on the descriptors 0 and 1, which otherwise nothing may use."""
        saved = [os.dup(0), os.dup(1)]
        try:
            os.dup2(self._transport.in_fd, 0)
            os.dup2(self._transport.out_fd, 1)
            yield
        finally:
            for fd, copy in enumerate(saved):
                os.dup2(copy, fd)
                os.close(copy)


def _edit_lines() -> None:
    """Gives `input` keys to move, a history, and completion of paths."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(ImportError):  # a Python without it reads plain lines
        import readline

        readline.set_completer_delims(" \t\n")
        readline.parse_and_bind("tab: complete")
