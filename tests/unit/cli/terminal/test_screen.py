from __future__ import annotations

import os
import pty
import time
import tty
from collections.abc import Iterator

import pytest

from cli.terminal import screen as module
from cli.terminal.screen import Screen, printable
from mcp_protocol.stdio import StdioTransport


class Reader:
    """The other end of a screen's stdout and stderr."""

    def __init__(self, *, terminal: bool) -> None:
        self.fds = [pty.openpty() if terminal else os.pipe() for _ in range(2)]
        for _, theirs in self.fds if terminal else ():
            tty.setraw(theirs)
        (_, out), (_, error) = self.fds
        self.screen = Screen(StdioTransport(-1, out), error)

    def gets(self, number: int, text: str) -> bool:
        """Whether this and nothing else comes next on stdout (0) or stderr (1)."""
        wanted, found = text.encode(), b""
        while len(found) < len(wanted) and wanted.startswith(found):
            found += os.read(self.fds[number][0], 1 << 16)
        return found == wanted

    def close(self) -> None:
        for fd in (fd for pair in self.fds for fd in pair):
            os.close(fd)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until a test changes it."""
    now_s = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    return now_s


@pytest.fixture
def terminal(clock: list[float]) -> Iterator[Reader]:
    reader = Reader(terminal=True)
    yield reader
    reader.close()


@pytest.fixture
def pipe(clock: list[float]) -> Iterator[Reader]:
    reader = Reader(terminal=False)
    yield reader
    reader.close()


def test_terminal_shows_progress_in_one_line(terminal: Reader, clock: list[float]) -> None:
    screen = terminal.screen
    screen.progress("loading weights")
    assert terminal.gets(1, "\rloading weights\r")
    clock[0] += 3
    screen.tick()
    screen.tick()
    assert terminal.gets(1, "\rloading weights, 3 s\r")
    screen.progress("ready")
    assert terminal.gets(1, f"\rready{' ' * 15}\r")
    screen.write("Hello\n")
    assert terminal.gets(1, f"\r{' ' * 5}\r")
    assert terminal.gets(0, "Hello\n")


def test_time_of_a_job_is_not_shown_twice(terminal: Reader, clock: list[float]) -> None:
    terminal.screen.progress("image_1: running, 0 s so far")
    clock[0] += 5
    terminal.screen.progress("image_1: running, 5 s so far")
    assert terminal.gets(1, "\rimage_1: running, 0 s so far\r\rimage_1: running, 5 s so far\r")


def test_pipe_gets_a_line_per_step_and_one_now_and_then(pipe: Reader, clock: list[float]) -> None:
    for step in ("loading weights", "loading weights", "1 of at most 20 tokens", "2 of at most 20 tokens"):
        pipe.screen.progress(step)
        pipe.screen.tick()
        clock[0] += 1
    clock[0] += module.REPEAT_S
    pipe.screen.progress("9 of at most 20 tokens")
    pipe.screen.end()
    assert pipe.gets(1, "loading weights\n1 of at most 20 tokens\n9 of at most 20 tokens\n")


def test_terminal_gets_no_control_characters_and_a_pipe_gets_the_text_as_it_is(terminal: Reader, pipe: Reader) -> None:
    text = "a\x1b[2Jb\tc\r\nd\n"
    terminal.screen.write(text)
    pipe.screen.write(text)
    assert terminal.gets(0, "a\\x1b[2Jb\tc\nd\n")
    assert pipe.gets(0, text)
    pipe.screen.complain("no\x07")
    assert pipe.gets(1, "no\\x07\n")


def test_step_of_many_lines_is_one_line_within_the_width(terminal: Reader) -> None:
    terminal.screen.progress("word\n" * 100)
    assert terminal.gets(1, "\r" + ("word " * 100)[: terminal.screen.columns - 1] + "\r")


def test_printable_leaves_all_languages_alone() -> None:
    text = "naïve 漢字 👩‍👧 a\u00a0b\tc\n"
    assert printable(text) == text
    assert printable("\x9b31m") == "\\x9b31m"
