"""Sessions: unguessable, limited in number and time, nobody else's."""

from __future__ import annotations

import asyncio

import pytest

from mcp_protocol.connection import Connection
from mcp_protocol.http.sessions import Session, Sessions, TooManySessions
from mcp_protocol.http.streams import MAX_BACKLOG, Stream


class Shop:
    """Sessions, and the connections of those that have ended."""

    def __init__(self, max_sessions: int = 3, idle_s: float = 1000.0) -> None:
        self.ended: list[Connection] = []
        self.sessions = Sessions(max_sessions, idle_s, self.ended.append)

    def begin(self, n: int = 1, owner: int = 0) -> list[Session]:
        """So many new sessions."""
        return [self.sessions.begin(owner) for _ in range(n)]


def test_ids_are_long_and_all_different() -> None:
    sessions = Shop(max_sessions=100).begin(100)
    assert len({session.id for session in sessions}) == 100
    assert all(len(session.id) >= 43 and session.id.isascii() and session.id.isprintable() for session in sessions)


def test_session_is_found_by_its_owner_alone() -> None:
    shop = Shop()
    (session,) = shop.begin(owner=1)
    assert shop.sessions.find(session.id, 1) is session
    assert shop.sessions.find(session.id, 0) is None
    for wrong in ("", session.id[:-1], session.id + " ", "../" + session.id, "x" * 1_000_000):
        assert shop.sessions.find(wrong, 1) is None


def test_ended_session_is_forgotten_once() -> None:
    shop = Shop()
    (session,) = shop.begin()
    for _ in range(2):
        shop.sessions.end(session)
    assert shop.ended == [session.connection]
    assert shop.sessions.find(session.id, 0) is None


def test_silent_session_ends_but_not_one_in_use() -> None:
    shop = Shop(idle_s=10.0)
    silent, busy = shop.begin(2)
    with busy.in_use():
        for session in (silent, busy):
            session.last_used_s -= 11
        assert shop.sessions.find(silent.id, 0) is None
        assert shop.sessions.find(busy.id, 0) is busy
    assert shop.sessions.find(busy.id, 0) is busy
    assert shop.ended == [silent.connection]


def test_new_session_takes_the_place_of_the_one_silent_longest() -> None:
    shop = Shop()
    first, second, _ = shop.begin(3)
    first.last_used_s -= 1
    second.last_used_s -= 2
    shop.begin()
    assert shop.ended == [second.connection]
    assert len(shop.sessions) == 3


def test_no_session_begins_while_all_are_in_use() -> None:
    shop = Shop(max_sessions=1)
    (session,) = shop.begin()
    with session.in_use(), pytest.raises(TooManySessions):
        shop.begin()
    shop.begin()


def test_owners_take_no_room_from_each_other() -> None:
    shop = Shop(max_sessions=2)
    (theirs,) = shop.begin(owner=1)
    ours = shop.begin(5, owner=0)
    assert shop.ended == [session.connection for session in ours[:3]]
    with ours[3].in_use(), ours[4].in_use():
        with pytest.raises(TooManySessions):
            shop.begin(owner=0)
        assert shop.sessions.find(theirs.id, 1) is theirs
        shop.begin(1, owner=1)


def test_messages_wait_for_the_stream_and_the_newest_stream_gets_them() -> None:
    async def main() -> None:
        (session,) = Shop().begin()
        for number in range(MAX_BACKLOG + 1):
            session.writer.write(b"%d\n" % number)
        first, second = Stream(), Stream()
        session.writer.open(first)
        assert await first.next(1) == b"1\n"
        first.drop()
        session.writer.open(second)
        assert first.ended
        session.writer.write(b"new\n")
        assert await second.next(1) == b"new\n"
        session.writer.close(first)
        session.writer.write(b"more\n")
        assert await second.next(1) == b"more\n"
        session.writer.close()
        assert second.ended

    asyncio.run(main())
