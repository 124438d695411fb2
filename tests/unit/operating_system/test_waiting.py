"""Waiting for input, wake-ups, signals and readers, with `poll` and as on Windows."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from operating_system import signals
from operating_system.carried_input import CarriedInput
from operating_system.polling import Polling
from operating_system.waiter import INPUT, READER_GONE, Waiter
from operating_system.waiting import wait_until_readable, waiting

WAIT_S = 30.0
Make = Callable[[int], Waiter]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's ends, closed after the test if it has not done so; the writing end first, which ends a reader."""
    ends = os.pipe()
    yield ends
    for fd in reversed(ends):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(params=[lambda fd: Polling(fd, None), CarriedInput], ids=["polling", "carried"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes the waiter of a system for an input."""
    made: list[Waiter] = []

    def new(fd: int) -> Waiter:
        made.append(request.param(fd))
        return made[-1]

    yield new
    for waiter in made:
        close(waiter)


def close(waiter: Waiter) -> None:
    """Closes the sockets; a server has one waiter until its end."""
    for end in vars(waiter).values():
        if isinstance(end, socket.socket):
            end.close()


def test_input_is_read_to_its_end(make: Make, pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    waiter = make(read_fd)
    assert waiter.wait(0) == 0
    os.write(write_fd, b"abc")
    assert (waiter.wait(WAIT_S), waiter.read()) == (INPUT, b"abc")
    os.close(write_fd)
    assert (waiter.wait(WAIT_S), waiter.read()) == (INPUT, b"")
    assert waiter.wait(0) == 0


def test_much_input_arrives_whole(make: Make, pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    sent = os.urandom(3_000_000)
    waiter = make(read_fd)

    def write() -> None:
        with open(write_fd, "wb", closefd=False) as file:
            file.write(sent)
        os.close(write_fd)

    writer = threading.Thread(target=write)
    writer.start()
    received = bytearray()
    while True:
        if waiter.wait(WAIT_S) & INPUT:
            data = waiter.read()
            if not data:
                break
            received += data
    writer.join()
    assert received == sent


def test_another_thread_wakes_it(make: Make, pipe: tuple[int, int]) -> None:
    waiter = make(pipe[0])
    threading.Timer(0.05, waiter.wake).start()
    begin_s = time.monotonic()
    assert waiter.wait(WAIT_S) == 0
    assert time.monotonic() - begin_s < WAIT_S
    assert waiter.wait(0) == 0


def test_many_wake_ups_never_block(make: Make, pipe: tuple[int, int]) -> None:
    waiter = make(pipe[0])
    for _ in range(100_000):
        waiter.wake()
    assert waiter.wait(WAIT_S) == 0


def test_signal_ends_the_wait(make: Make, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "STOP_SIGNALS", (signal.SIGUSR1,))
    waiter, caught = make(pipe[0]), threading.Event()
    before = signal.getsignal(signal.SIGUSR1)
    signals.on_stop(lambda *_: caught.set(), waiter.signals_fd)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert waiter.wait(WAIT_S) == 0
        assert caught.is_set()
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)


def test_end_is_announced_to_child_processes(pipe: tuple[int, int]) -> None:
    waiter = Polling(pipe[0], None)
    waiter.announce_end()
    assert os.read(waiter.ending_fd, 10) == b"\0"
    carried = CarriedInput(None)
    assert carried.ending_fd == -1
    close(carried)


def test_reader_that_has_gone_is_noticed(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    waiter = Polling(None, write_fd)
    assert waiter.wait(0) == 0
    os.close(read_fd)
    assert waiter.wait(WAIT_S) == READER_GONE


def test_non_blocking_input_that_is_empty(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[0], False)
    assert Polling(pipe[0], None).read() is None


@pytest.mark.parametrize(
    ("platform", "is_terminal", "expected"),
    [
        ("linux", False, Polling),
        ("linux", True, Polling),
        ("darwin", False, Polling),
        ("darwin", True, CarriedInput),
        ("win32", False, CarriedInput),
    ],
)
def test_each_system_waits_in_its_way(
    platform: str, is_terminal: bool, expected: type[Waiter], pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "isatty", lambda fd: is_terminal)
    found = waiting(*pipe)
    assert type(found) is expected
    close(found)


def test_devices_are_not_watched_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, `poll` reports each as broken at once, and the server would end."""
    monkeypatch.setattr(sys, "platform", "darwin")
    fd = os.open(os.devnull, os.O_WRONLY)
    try:
        waiter = Polling(None, fd)
        assert fd not in [registered for registered, _ in waiter._poll.poll(0)]
        with pytest.raises(FileNotFoundError):
            waiter._poll.modify(fd, 0)
    finally:
        os.close(fd)


def test_without_memory_little_is_read_at_once(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    read_fd, write_fd = pipe
    waiter = Polling(read_fd, None)
    os.write(write_fd, b"x" * 300)
    real_read = os.read

    def read(fd: int, size: int) -> bytes:
        if size > 512:  # larger blocks are the system's, not Python's own
            raise MemoryError
        return real_read(fd, size)

    monkeypatch.setattr(os, "read", read)
    assert (waiter.read(), waiter.read()) == (b"x" * 256, b"x" * 44)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a read by itself")
def test_signal_that_another_thread_gets_ends_the_wait_for_a_read(pipe: tuple[int, int]) -> None:
    other = threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
    other.start()
    with pytest.raises(KeyboardInterrupt):
        wait_until_readable(pipe[0])
    other.join()
    os.write(pipe[1], b"x")
    wait_until_readable(pipe[0])
    assert os.read(pipe[0], 2) == b"x"
