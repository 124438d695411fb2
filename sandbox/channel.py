"""Messages between a child and its parent: msgpack over a socket, each preceded by its length."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import msgspec

LENGTH_BYTES = 8
PIECE_BYTES = 1 << 20


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A call. `data` are the input bytes; None if there are none, or if they are the first `n_data` of the area."""

    function: str
    arguments: dict[str, Any]
    timeout_s: float
    memory_bytes: int
    ceiling_bytes: int
    data: bytes | None
    n_data: int


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of a call: `kind` is None for a result, else the dotted path of an exception, and `text` its text.

    The bytes of the result are `data`, or the first `n_data` of the area. `kept_bytes` is the memory that the child has
    not freed.
    """

    kind: str | None
    text: str
    value: Any
    data: bytes | None
    n_data: int
    kept_bytes: int


Timeout = Callable[[], float | None]
"""Called before each wait: how many seconds it may last, `None` for no limit. It raises when the time is up."""


def send(peer: socket.socket, message: msgspec.Struct, timeout_s: Timeout = lambda: None) -> None:
    """Sends one message.

    Raises: `OSError` when the other side has closed the socket; what `timeout_s` raises.
    """
    body = msgspec.msgpack.encode(message)
    # A small message is sent in one piece: two pieces would wake the other side twice.
    head = len(body).to_bytes(LENGTH_BYTES, "little")
    for part in (head + body,) if len(body) < PIECE_BYTES else (head, body):
        left = memoryview(part)
        while left:
            peer.settimeout(timeout_s())
            with contextlib.suppress(TimeoutError):
                left = left[peer.send(left[:PIECE_BYTES]) :]


def receive(peer: socket.socket, timeout_s: Timeout = lambda: None) -> bytes:
    """Receives one message, not decoded.

    Raises: `EOFError` or `OSError` when the other side has closed the socket; what `timeout_s` raises.
    """
    n_bytes = int.from_bytes(_receive(peer, LENGTH_BYTES, timeout_s), "little")
    return bytes(_receive(peer, n_bytes, timeout_s))


def _receive(peer: socket.socket, n_bytes: int, timeout_s: Timeout) -> bytearray:
    received = bytearray()
    while len(received) < n_bytes:
        peer.settimeout(timeout_s())
        try:
            piece = peer.recv(min(PIECE_BYTES, n_bytes - len(received)))
        except TimeoutError:
            continue
        if not piece:
            raise EOFError
        received += piece
    return received
