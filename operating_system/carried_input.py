"""Waits where the input cannot be polled: Windows waits only for sockets, and macOS not for terminals.

A thread reads the input and writes it to a socket, whose size limits what is read ahead.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading

from operating_system.waiter import INPUT, READ_BYTES, Waiter


class CarriedInput(Waiter):
    """That the reader of the output has gone is noticed with the next write.

    Arguments:
        in_fd: the input, if any.
    """

    def __init__(self, in_fd: int | None) -> None:
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.signals_fd = self._waker.fileno()
        self._watched = [self._woken]
        if in_fd is not None:
            self._input, carrier = socket.socketpair()
            self._watched.append(self._input)
            threading.Thread(target=_carry, args=(in_fd, carrier), name="stdin", daemon=True).start()

    def wake(self) -> None:
        """Ends the wait."""
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    announce_end = wake

    def wait(self, timeout_s: float | None) -> int:
        """Waits, and returns the flags of what has happened."""
        ready, _, _ = select.select(self._watched, [], [], None if timeout_s is None else max(0.0, timeout_s))
        if self._woken in ready:
            self._woken.recv(4096)
        return INPUT if len(ready) > (self._woken in ready) else 0

    def read(self) -> bytes | None:
        """Reads available input: `b""` at its end."""
        data = self._input.recv(READ_BYTES)
        if not data:
            self._watched.remove(self._input)
        return data


def _carry(in_fd: int, carrier: socket.socket) -> None:
    with carrier, contextlib.suppress(OSError):
        while data := os.read(in_fd, READ_BYTES):
            carrier.sendall(data)
