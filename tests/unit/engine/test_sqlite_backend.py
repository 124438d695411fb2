"""What a sessions' file keeps over restarts, and what is in it afterwards."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest
from PIL import Image

from engine.interface import ImagePart, Message, TextPart, ToolCall
from engine.sessions.codec import decode_image, decode_messages, encode_image, encode_messages
from engine.sessions.store import SessionStore
from tests.unit.engine.session_samples import MAX_IMAGES, make_image, message, say, stored, texts

TABLES = ("sessions", "turns", "turn_pictures", "pictures")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "kept" / "sessions.db")


def counts(path: str) -> tuple[int, ...]:
    """How many sessions, turns, uses of images and images the file has."""
    connection = sqlite3.connect(path)
    found = tuple(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
    connection.close()
    return found


def test_nothing_is_opened_before_a_turn_is_stored(path: str) -> None:
    store = stored(path)
    assert len(store) == 0
    assert store.list() == ()
    assert not store.delete("s")
    store.plan("s", [message("user", "hi")], MAX_IMAGES)
    assert not Path(path).parent.exists()
    say(store, "s", "hi")
    assert Path(path).exists()


def test_a_session_continues_after_a_restart(path: str) -> None:
    first = stored(path)
    plan = first.plan("s", [message("system", "S"), message("user", "look", make_image(7, side=5))], MAX_IMAGES)
    first.commit(plan, message("assistant", "a\ud800\n日本\0"))
    before = first.get("s")
    second = stored(path)
    after = second.get("s")
    assert after == before
    assert after.turns[0].key == before.turns[0].key
    assert after.images[0].image.tobytes() == make_image(7, side=5).image.tobytes()
    assert say(second, "s", "more") == 0
    assert texts(stored(path).get("s").messages) == ["S", "look", "a\ud800\n日本\0", "more", "ok"]


def test_a_closed_file_is_one_file_that_only_its_owner_reads(path: str) -> None:
    store = stored(path)
    say(store, "s", "hi", make_image(1))
    assert {stat.S_IMODE(file.stat().st_mode) for file in Path(path).parent.iterdir()} == {0o600}
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
    store.close()
    assert [file.name for file in Path(path).parent.iterdir()] == ["sessions.db"]
    assert texts(store.get("s").messages) == ["hi", "ok"]


def test_every_folder_that_is_made_for_the_file_is_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        say(stored(str(tmp_path / "a" / "b" / "sessions.db")), "s", "hi")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("a", "a/b")] == [0o700, 0o700]


def test_calls_of_tools_and_their_answers_are_kept(path: str) -> None:
    store = stored(path)
    asked = Message("assistant", (), (ToolCall("call_1", "add", '{"a": 1}'), ToolCall("call_2", "add", "broken {")))
    store.commit(store.plan("s", [message("user", "1 + 1?")], MAX_IMAGES), asked)
    answered = Message("tool", (TextPart("2"),), tool_call_id="call_1")
    store.commit(store.plan("s", [answered], MAX_IMAGES), message("assistant", "Two"))
    assert stored(path).get("s").messages == (message("user", "1 + 1?"), asked, answered, message("assistant", "Two"))


def test_dropped_turns_leave_the_file(path: str) -> None:
    store = stored(path, max_messages=4)
    assert [say(store, "s", str(number), make_image(number)) for number in range(4)] == [0, 0, 2, 2]
    assert counts(path) == (1, 2, 2, 2)
    assert texts(stored(path).get("s").messages) == ["2", "ok", "3", "ok"]


def test_another_system_message_takes_the_place_of_the_former(path: str) -> None:
    store = stored(path)
    for text in ("S", "S", "T"):
        store.commit(store.plan("s", [message("system", text), message("user", "hi")], 4), message("assistant", "ok"))
    again = stored(path)
    assert texts(again.get("s").system) == ["T"]
    assert again.list()[0].n_messages == 7 == again.get("s").n_messages


def test_rows_tell_what_whole_sessions_would(path: str) -> None:
    store = stored(path, max_messages=6)
    for number in range(5):
        say(store, "a", "x", make_image(number, side=3), make_image(0))
        say(store, "b", "x")
    rows = stored(path).list()
    assert rows == store.list()
    assert [(row.id, row.n_messages, row.n_images, row.image_bytes) for row in rows] == [
        ("a", 4, 4, 78),
        ("b", 6, 0, 0),
    ]


def test_the_oldest_session_leaves_the_file_when_there_are_too_many(path: str) -> None:
    store = stored(path, max_sessions=2)
    for session_id in ("a", "b", "a", "c"):
        say(store, session_id, session_id, make_image(1), make_image(ord(session_id)))
    assert [row.id for row in store.list()] == ["b", "c"]
    assert counts(path) == (2, 2, 4, 3)
    assert store.plan("a", [message("user", "again")], MAX_IMAGES).turns == ()


def test_a_smaller_number_of_sessions_counts_from_the_next_new_one_on(path: str) -> None:
    for session_id in "abcd":
        say(stored(path), session_id, "hi")
    smaller = stored(path, max_sessions=2)
    say(smaller, "d", "more")
    assert len(smaller) == 4
    say(smaller, "e", "new")
    assert [row.id for row in smaller.list()] == ["d", "e"]


def test_an_image_is_in_the_file_once_until_nobody_shows_it(path: str) -> None:
    store = stored(path)
    for session_id in ("a", "b"):
        say(store, session_id, "look", make_image(1), make_image(1))
        say(store, session_id, "again", make_image(1))
    assert counts(path) == (2, 4, 4, 1)
    store.delete("a")
    assert counts(path) == (1, 2, 2, 1)
    store.delete("b")
    assert counts(path) == (0, 0, 0, 0)


def test_what_was_deleted_is_nowhere_in_the_file(path: str) -> None:
    store = stored(path)
    say(store, "s", "xyzzy " * 2000, make_image(1, side=300))
    say(store, "other", "hi")
    assert store.delete("s")
    assert not store.delete("s")
    content = b"".join(file.read_bytes() for file in Path(path).parent.iterdir())
    assert b"xyzzy" not in content
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    connection.close()
    assert [row.id for row in stored(path).list()] == ["other"]


def test_a_fork_is_stored_with_the_images_of_its_source(path: str) -> None:
    store = stored(path)
    say(store, "s", "look", make_image(1))
    again = stored(path)
    plan = again.plan("s", [message("user", "two")], MAX_IMAGES, fork=True, fork_id="copy")
    again.commit(plan, message("assistant", "ok"))
    assert counts(path) == (2, 3, 2, 1)
    assert again.get("copy").images[0] is again.get("s").images[0]
    assert texts(stored(path).get("copy").messages) == ["look", "ok", "two", "ok"]
    again.delete("s")
    third = stored(path).get("copy")
    assert third.images[0].image.tobytes() == make_image(1).image.tobytes()


def test_sessions_in_memory_stay_within_their_bytes(path: str) -> None:
    store = stored(path, loaded_bytes=100_000)
    for number in range(10):
        say(store, f"s{number}", "look", make_image(number, side=100))
    storage = store._backend
    assert sum(session.n_bytes for session in storage._loaded.values()) <= 100_000  # type: ignore[attr-defined]
    assert [store.get(f"s{number}").images[0].image.getpixel((0, 0)) for number in range(10)] == [
        (number, number, number) for number in range(10)
    ]


def test_listing_reads_no_messages_and_no_images(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        say(stored(path), f"s{number}", "look", make_image(number))
    monkeypatch.setattr("engine.sessions.db.decode_media", None)
    monkeypatch.setattr("engine.sessions.db.decode_messages", None)
    again = stored(path)
    assert len(again) == 3
    assert sum(row.n_images for row in again.list()) == 3


def writes_of_turn(store: SessionStore, text: str, *images: ImagePart) -> int:
    """How many statements one turn costs."""
    statements: list[str] = []
    store._backend._db._connection.set_trace_callback(statements.append)  # type: ignore[attr-defined]
    say(store, "s", text, *images)
    store._backend._db._connection.set_trace_callback(None)  # type: ignore[attr-defined]
    return len(statements)


@pytest.mark.slow
def test_a_turn_costs_the_file_the_same_after_thousands(path: str) -> None:
    store = stored(path, max_messages=100_000, loaded_bytes=1 << 30)
    say(store, "s", "look", make_image(1))
    early = writes_of_turn(store, "early")
    began_s = time.monotonic()
    for number in range(2000):
        say(store, "s", str(number))
    assert time.monotonic() - began_s < 60
    assert writes_of_turn(store, "late") == early < 20
    again = stored(path, max_messages=100_000).get("s")
    assert again.n_messages == 4006
    assert [turn.messages[0].text for turn in again.turns[2:2002]] == [str(number) for number in range(2000)]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 3)])
def test_images_lose_nothing_and_bring_nothing_with_them(mode: str, size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert(mode)
    image.info["icc_profile"] = b"x" * 200
    again = decode_image(encode_image(image))
    assert (again.mode, again.size, again.tobytes(), again.info) == (image.mode, image.size, image.tobytes(), {})


def test_messages_lose_nothing() -> None:
    image = make_image(3)
    messages = (message("system", ""), message("user", "a", image, "b", image), message("assistant", '"\\\ud83d'))
    assert decode_messages(encode_messages(messages), {image.digest: image}.__getitem__) == messages


def test_model_of_each_reply_is_stored(path: str) -> None:
    store = stored(path)
    say(store, "old", "one")
    for name in ("first", "second"):
        plan = store.plan("s", [message("user", "Hi")], MAX_IMAGES)
        store.commit(plan, Message("assistant", (TextPart("ok"),), model=name))
    assert store.models() == {"s": "second"}
    again = stored(path)
    assert again.models() == {"s": "second"}
    assert [each.model for each in again.get("s").messages] == [None, "first", None, "second"]
