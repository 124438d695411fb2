from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from cli.terminal.client import Client
from cli.terminal.screen import Screen
from cli.terminal.user_input import UserInput
from cli.terminal.words import UsageError
from mcp_protocol.stdio import StdioTransport


class NoSignals:
    """A client to which no signal comes."""

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


@pytest.fixture
def piped() -> Iterator[Callable[[bytes], UserInput]]:
    """Makes the input of a user who has written some bytes."""
    fds: list[int] = []

    def made(data: bytes) -> UserInput:
        read_fd, write_fd = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        fds.extend((read_fd, null))
        os.write(write_fd, data)
        os.close(write_fd)
        transport = StdioTransport(read_fd, null)
        return UserInput(transport, cast("Client", NoSignals()), Screen(transport, null))

    yield made
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\n\ntwo\n", ["one", "", "two"]),
        ("naïve \n".encode() + b"\xff\n", ["naïve ", "\ufffd"]),
    ],
)
def test_lines_of_a_pipe(piped: Callable[[bytes], UserInput], data: bytes, lines: list[str]) -> None:
    user = piped(data)
    assert not user.is_terminal
    assert [user.line("> ") for _ in lines] == lines
    assert user.line("> ") is None


def test_text_of_files_and_of_stdin(
    piped: Callable[[bytes], UserInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfsome text\n")
    user = piped(b"from\nstdin\n")
    assert user.file("a.txt") == "some text\n"
    assert user.file("-") == "from\nstdin\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("none", "none cannot be read: No such file or directory."),
        (".", ". cannot be read: Is a directory."),
        ("a\0b", "cannot be read: embedded null byte."),
        ("binary", "binary has no text in UTF-8."),
    ],
)
def test_files_that_cannot_be_read(
    piped: Callable[[bytes], UserInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=text.replace(".", r"\.")):
        piped(b"").file(path)
