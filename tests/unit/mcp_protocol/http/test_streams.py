"""Lines between the threads of the server and a response."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from mcp_protocol.http import streams
from mcp_protocol.http.streams import Reply, Stream
from mcp_protocol.jsonrpc import INVALID_PARAMS, ProtocolError
from sandbox.budget import ByteBudget
from tests.unit.mcp_protocol.host import WAIT_S
from tests.unit.mcp_protocol.http.web import Web
from tests.web_client import call, request


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Runs a test that awaits."""

    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            await main()

    asyncio.run(bounded())


def reply(*, as_json: bool = True, as_events: bool = True) -> Reply:
    """What answers one request of a client that takes these."""
    made = Reply(as_json, as_events, lambda code: None)
    made.expect(1)
    return made


def test_lines_of_many_threads_all_arrive_in_the_order_of_each() -> None:
    async def main() -> None:
        stream = Stream()

        def write(name: int) -> None:
            for number in range(100):
                stream.write(b"%d %d" % (name, number))

        threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        found: list[tuple[int, ...]] = []
        while len(found) < 400:
            line = await stream.next(WAIT_S)
            assert line is not None
            found.append(tuple(map(int, line.split())))
        for name in range(4):
            assert [number for writer, number in found if writer == name] == list(range(100))
        stream.close()
        assert await stream.next(None) is None
        assert stream.ended

    run(main)


def test_slow_reader_loses_notifications_but_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_WAITING", 3)

    async def main() -> None:
        stream = Stream()
        for number in range(5):
            stream.write(b"note %d" % number)
        stream.respond(b"answer")
        stream.close()
        assert [await stream.next(1) for _ in range(4)] == [b"note 0", b"note 1", b"note 2", b"answer"]

    run(main)


def test_what_streams_hold_counts_in_one_budget() -> None:
    budget = ByteBudget(100)

    async def main() -> None:
        unread, read, left = (Stream(budget) for _ in range(3))
        for _ in range(2):
            unread.respond(b"x" * 90)
        assert budget.held_bytes == 90
        for _ in range(3):  # whoever reads is not held up by those who do not
            read.respond(b"x" * 60)
            assert await read.next(1) == b"x" * 60
        left.respond(b"x" * 60)
        left.write(b"x" * 60)
        assert not left.ended
        left.respond(b"x" * 60)
        assert left.ended
        assert await unread.next(1) == b"x" * 90
        assert budget.held_bytes == 0
        unread.respond(b"x" * 90)
        unread.drop()
        assert budget.held_bytes == 0

    run(main)


def test_stream_that_nobody_reads_ends_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_WAITING_BYTES", 100)

    async def main() -> None:
        stream = Stream()
        stream.respond(b"x" * 60)
        assert await stream.next(1) == b"x" * 60
        stream.respond(b"x" * 60)
        assert not stream.ended
        stream.respond(b"x" * 60)
        assert stream.ended
        stream.respond(b"late")
        assert await stream.next(1) is None

    run(main)


def test_answer_alone_needs_no_stream() -> None:
    async def main() -> None:
        made = reply()
        made.respond(b"answer")
        assert await made.responses() == [b"answer"]

    run(main)


def test_notification_begins_a_stream() -> None:
    async def main() -> None:
        made = reply()
        made.write(b"note")
        assert await made.responses() is None
        made.respond(b"answer")
        assert [await made.next(1), await made.next(1), await made.next(1)] == [b"note", b"answer", None]

    run(main)


def test_client_of_json_is_spared_notifications() -> None:
    async def main() -> None:
        made = reply(as_events=False)
        made.write(b"note")
        made.respond(b"answer")
        assert await made.responses() == [b"answer"]

    run(main)


def test_error_is_json_even_where_only_events_are_taken() -> None:
    async def main() -> None:
        answered, refused = reply(as_json=False), reply(as_json=False)
        answered.respond(b"answer")
        assert await answered.responses() is None
        refused.send_error(ProtocolError(INVALID_PARAMS, "no", request_id=1))
        (line,) = await refused.responses() or []
        assert b"-32602" in line

    run(main)


def test_cancelled_request_ends_its_stream() -> None:
    async def main() -> None:
        made = reply()
        made.skip_response()
        assert await made.responses() is None
        assert made.ended
        without_events = reply(as_events=False)
        without_events.skip_response()
        assert await without_events.responses() == []

    run(main)


def test_silent_stream_says_that_it_is_alive(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEPALIVE_S", 0.05)
    session = web.initialize()
    with web.stream(call("wait"), session) as events:
        lines = events.response.iter_lines()
        assert next(lines) == ": ping"
        web.gates.go_on.set()
        assert any('"waited"' in line for line in lines)
    assert web.post(request("ping"), session).json()["result"] == {}
