"""The lines that a server writes to stdout: each must be one message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

Json = dict[str, Any]


class NotAMessage(AssertionError):
    """A line on stdout that is no JSON object."""


def lines_of(pipe: IO[bytes]) -> Iterator[bytes]:
    """The lines of an unbuffered pipe, with their line ends."""
    with open(pipe.fileno(), "rb", closefd=False) as buffered:
        yield from buffered


def parsed(line: bytes) -> Json:
    """A line of the server as a message.

    Raises: `NotAMessage` for anything but one ASCII line with a JSON object of finite numbers.
    """
    if not line.isascii() or not line.endswith(b"\n") or line.endswith(b"\r\n"):
        raise NotAMessage(line[:500])
    try:
        message = json.loads(line, parse_constant=_refuse)
    except ValueError:
        raise NotAMessage(line[:500]) from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise NotAMessage(line[:500])
    return message


def _refuse(constant: str) -> None:
    raise ValueError(constant)
