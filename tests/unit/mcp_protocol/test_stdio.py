from __future__ import annotations

import json
import os
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from mcp_protocol.stdio import LineSplitter, LineTooLong, ReaderGone, StdioTransport

STREAM = b'{"a":1}\n\r\n  \n{"b":"\xc3\xa9"}\r\n\n{"c":3}'
LINES = [b'{"a":1}', b'{"b":"\xc3\xa9"}', b'{"c":3}']


def split(chunks: list[bytes], max_bytes: int = 1000) -> list[bytes | LineTooLong]:
    """All lines of a stream that arrives in these chunks."""
    splitter = LineSplitter(max_bytes)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + list(splitter.finish())


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_lines_are_the_same_wherever_the_stream_is_cut(at: int) -> None:
    assert split([STREAM[:at], STREAM[at:]]) == LINES


def test_lines_are_the_same_byte_by_byte() -> None:
    assert split([STREAM[i : i + 1] for i in range(len(STREAM))]) == LINES


def test_line_comes_with_its_newline_and_not_before() -> None:
    splitter = LineSplitter(100)
    assert list(splitter.feed(b'{"a"')) == []
    assert list(splitter.feed(b":1}\n{")) == [b'{"a":1}']
    assert list(splitter.finish()) == [b"{"]


def test_blank_input_has_no_lines() -> None:
    assert split([b"\n\n", b" \r\n", b"\t"]) == []


@pytest.mark.parametrize("n_bytes", [99, 100])
def test_line_up_to_the_limit_is_read(n_bytes: int) -> None:
    assert split([b"x" * n_bytes + b"\ny\n"], max_bytes=100) == [b"x" * n_bytes, b"y"]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 101, 1000])
def test_too_long_line_is_reported_once_and_the_next_line_is_read(chunk_bytes: int) -> None:
    stream = b"a\n" + b"x" * 250 + b"\nb\n" + b"y" * 101 + b"\nc\n"
    lines = split([stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes)], max_bytes=100)
    assert [line if isinstance(line, bytes) else "too long" for line in lines] == [
        b"a",
        "too long",
        b"b",
        "too long",
        b"c",
    ]


def test_too_long_last_line_without_newline_is_reported() -> None:
    (line,) = split([b"x" * 101], max_bytes=100)
    assert isinstance(line, LineTooLong)


@pytest.mark.parametrize(("chunk_bytes", "n_chunks"), [(2, 100_000), (1 << 16, 1_000)])
def test_line_without_end_stays_in_bounded_memory(chunk_bytes: int, n_chunks: int) -> None:
    splitter = LineSplitter(1 << 20)
    chunk = b"x" * chunk_bytes
    tracemalloc.start()
    try:
        for _ in range(n_chunks):
            assert list(splitter.feed(chunk)) == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 << 20


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's ends, closed after the test if it has not done so."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def test_lines_of_many_threads_never_interleave(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    wire = StdioTransport(-1, write_fd)
    n_threads, n_lines = 8, 20
    lines = [json.dumps({"thread": i, "text": str(i) * 20_000}).encode() + b"\n" for i in range(n_threads)]

    def write(line: bytes) -> None:
        for _ in range(n_lines):
            wire.write(line)

    threads = [threading.Thread(target=write, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    with open(read_fd, "rb", closefd=False) as reader:
        seen = [reader.readline() for _ in range(n_threads * n_lines)]
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(lines * n_lines)


def test_whole_line_is_written_to_a_non_blocking_pipe_in_short_writes(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    os.set_blocking(write_fd, False)
    line = b"x" * 1_000_000 + b"\n"
    writer = threading.Thread(target=StdioTransport(-1, write_fd).write, args=(line,))
    writer.start()
    seen = bytearray()
    while len(seen) < len(line):
        seen += os.read(read_fd, 1000)  # far less than a pipe holds
    writer.join()
    assert bytes(seen) == line


@pytest.mark.parametrize("blocking", [True, False])
def test_write_to_nobody_raises_reader_gone(pipe: tuple[int, int], blocking: bool) -> None:
    read_fd, write_fd = pipe
    os.set_blocking(write_fd, blocking)
    os.close(read_fd)
    with pytest.raises(ReaderGone):
        StdioTransport(-1, write_fd).write(b"x\n")


@pytest.mark.parametrize("blocking", [True, False])
def test_writer_that_waits_learns_that_the_reader_left(pipe: tuple[int, int], blocking: bool) -> None:
    read_fd, write_fd = pipe
    os.set_blocking(write_fd, blocking)
    raised = threading.Event()

    def write() -> None:
        try:
            StdioTransport(-1, write_fd).write(b"x" * 1_000_000)
        except ReaderGone:
            raised.set()

    writer = threading.Thread(target=write)
    writer.start()
    os.read(read_fd, 1)  # the writer has begun
    os.close(read_fd)
    assert raised.wait(30)
    writer.join()


class Scarce(bytearray):
    """Takes nothing more."""

    def __iadd__(self, part: object) -> Scarce:
        raise MemoryError


def test_line_that_finds_no_memory_is_skipped_to_its_end_and_the_next_is_read() -> None:
    splitter = LineSplitter(100)
    splitter._line = Scarce()
    assert list(splitter.feed(b"a long ")) == []
    (lost,) = splitter.feed(b"line\n")
    assert isinstance(lost, LineTooLong)
    assert lost.no_memory
    assert list(splitter.feed(b"next\n")) == [b"next"]
    (long,) = splitter.feed(b"x" * 200 + b"\n")
    assert isinstance(long, LineTooLong)
    assert not long.no_memory
