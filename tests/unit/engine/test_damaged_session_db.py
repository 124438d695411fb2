"""Damaged session files: no data is lost, and a new file replaces them."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.sessions import db_file
from tests.unit.engine.session_samples import aside, filled, make_image, problem_of, say, stored, texts

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits long for a lock that will not go."""
    monkeypatch.setattr(db_file, "BUSY_S", 0.1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sessions.db")


# Damaged files


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def _cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def _random_bytes(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(10_000))


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _zero_pages(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


def _text(path: Path) -> None:
    path.write_text("These are notes, and no database.\n" * 20)


def _no_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE turn_pictures")
    connection.close()


def _one_letter(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"what was said", b"what was laid", 1))


def _one_pixel(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (pixels,) = connection.execute("SELECT pixels FROM pictures").fetchone()
        at = path.read_bytes().index(pixels[:40]) + 30
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], None]] = [
    _truncate,
    _cut_header,
    _random_bytes,
    _zeros,
    _zero_pages,
    _text,
    _no_tables,
    _one_letter,
    _one_pixel,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_renamed_and_a_new_one_replaces_it(path: str, damage: Callable[[Path], None]) -> None:
    damage(Path(filled(path)))
    content = Path(path).read_bytes()
    store = stored(path)
    assert say(store, "old", "hi") == 0
    (kept,) = aside(path)
    assert kept.read_bytes() == content
    assert kept.name in problem_of(store)
    assert os.path.dirname(path) not in problem_of(store)
    again = stored(path)
    assert texts(again.get("old").messages) == ["hi", "ok"]
    assert again.problem() is None


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_overwritten_there_is_an_answer_and_nothing_is_thrown_away(path: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(Path(filled(path)).read_bytes())
    for _ in range(chance.choice((1, 10, 200))):
        data[chance.randrange(100, len(data))] = chance.randrange(256)
    Path(path).write_bytes(data)
    store = stored(path)
    store.list()
    say(store, "old", "hi")
    say(store, "new", "hi", make_image(2))
    assert texts(stored(path).get("new").messages) == ["hi", "ok"]
    assert all(file.read_bytes() == data for file in aside(path))


def test_file_damaged_while_in_use_leaves_what_memory_holds(path: str) -> None:
    store = stored(filled(path), loaded_bytes=1 << 30)
    say(store, "a", "one", make_image(5))
    say(store, "b", "one")
    Path(path).write_bytes(random.Random(2).randbytes(50_000))
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(path + suffix).write_bytes(random.Random(3).randbytes(50_000))
    store.close()
    say(store, "a", "two")
    assert len(aside(path)) == 1
    again = stored(path)
    assert texts(again.get("a").messages) == ["one", "ok", "two", "ok"]
    assert texts(again.get("b").messages) == ["one", "ok"]
    assert [row.id for row in again.list()] == ["a", "b"]
    assert again.get("a").images[0].image.tobytes() == make_image(5).image.tobytes()


def test_file_that_another_server_has_renamed_is_not_renamed_again(path: str) -> None:
    _random_bytes(Path(filled(path)))
    damaged = db_file.identity(path)
    assert db_file.rename_damaged(path, damaged) is not None
    say(stored(path), "s", "hi")
    assert db_file.rename_damaged(path, damaged) is None
    assert texts(stored(path).get("s").messages) == ["hi", "ok"]
    assert len(aside(path)) == 1


def test_file_of_no_bytes_is_a_new_one(path: str) -> None:
    Path(path).touch(0o644)
    store = stored(path)
    say(store, "s", "hi")
    assert store.problem() is None
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert len(stored(path)) == 1


def test_log_without_its_file_is_renamed_and_not_applied_to_the_new_file(path: str) -> None:
    store = stored(path)
    say(store, "s", "hi")
    log = Path(path + "-wal").read_bytes()
    store.close()
    Path(path).unlink()
    Path(path + "-wal").write_bytes(log)
    again = stored(path)
    say(again, "t", "new")
    assert [row.id for row in stored(path).list()] == ["t"]
    (kept,) = Path(path).parent.glob("*.damaged-*-wal")
    assert kept.read_bytes() == log


def test_log_of_a_process_that_was_killed_is_read(path: str) -> None:
    store = stored(path)
    say(store, "s", "hi")
    copy = Path(path).parent / "copy.db"
    for suffix in ("", "-wal"):  # as they are while the server runs
        (copy.parent / f"copy.db{suffix}").write_bytes(Path(path + suffix).read_bytes())
    assert texts(stored(str(copy)).get("s").messages) == ["hi", "ok"]
