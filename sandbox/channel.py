"""Messages between a child and its parent: msgpack over a socket, each after its length."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import msgspec

LENGTH_BYTES = 8
PIECE_BYTES = 1 << 20


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A call. `data` are the bytes to work on; None where there are none, or where they are the first `n_data` of the
    area."""

    function: str
    arguments: dict[str, Any]
    timeout_s: float
    memory_bytes: int
    ceiling_bytes: int
    data: bytes | None
    n_data: int


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What became of it. `kind` is None for a result, else the dotted path of an exception, and `text` its text.

    The result's bytes are `data`, or the first `n_data` of the area. `kept_bytes` is what the child has not given back.
    """

    kind: str | None
    text: str
    value: Any
    data: bytes | None
    n_data: int
    kept_bytes: int


def send(peer: socket.socket, message: msgspec.Struct, on_wait: Callable[[], None] = lambda: None) -> None:
    """Sends one message; `on_wait` is called whenever the socket's time-out passes, and may raise.

    Raises: `OSError` when there is no other side any more.
    """
    body = msgspec.msgpack.encode(message)
    # A small message goes in one piece: two would wake the other side twice.
    head = len(body).to_bytes(LENGTH_BYTES, "little")
    for part in (head + body,) if len(body) < PIECE_BYTES else (head, body):
        left = memoryview(part)
        while left:
            try:
                left = left[peer.send(left[:PIECE_BYTES]) :]
            except TimeoutError:
                on_wait()


def receive(peer: socket.socket, on_wait: Callable[[], None] = lambda: None) -> bytes:
    """Receives one message, not decoded; `on_wait` as for `send`.

    Raises: `EOFError` or `OSError` when there is no other side any more.
    """
    n_bytes = int.from_bytes(_receive(peer, LENGTH_BYTES, on_wait), "little")
    return bytes(_receive(peer, n_bytes, on_wait))


def _receive(peer: socket.socket, n_bytes: int, on_wait: Callable[[], None]) -> bytearray:
    received = bytearray()
    while len(received) < n_bytes:
        try:
            piece = peer.recv(min(PIECE_BYTES, n_bytes - len(received)))
        except TimeoutError:
            on_wait()
            continue
        if not piece:
            raise EOFError
        received += piece
    return received
