"""Session files of other programs, locked or full disks: no turn is lost."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import StoreUnavailable
from engine.sessions import db_file
from engine.sessions.db_file import SCHEMA_VERSION
from tests.unit.engine.session_samples import filled, make_image, message, problem_of, say, stored, texts

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits long for a lock that will not go."""
    monkeypatch.setattr(db_file, "BUSY_S", 0.1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sessions.db")


# Files that are not ours


@pytest.mark.parametrize("wal", [False, True])
def test_newer_file_is_left_alone_and_another_beside_it_is_used(path: str, wal: bool) -> None:
    connection = sqlite3.connect(filled(path))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    if not wal:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    content = Path(path).read_bytes()
    store = stored(path)
    say(store, "s", "hi")
    assert Path(path).read_bytes() == content
    assert "newer" in problem_of(store)
    assert "sessions.db.v1" in problem_of(store)
    again = stored(path)
    assert texts(again.get("s").messages) == ["hi", "ok"]
    assert "newer" in problem_of(again)


@pytest.mark.parametrize("application_id", [0, 0x0F055112])
def test_database_of_another_program_is_left_alone(path: str, application_id: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE sessions (theirs TEXT)")
    connection.execute("INSERT INTO sessions VALUES ('precious')")
    connection.execute(f"PRAGMA application_id = {application_id}")
    connection.commit()
    connection.close()
    content = Path(path).read_bytes()
    store = stored(path)
    say(store, "s", "hi")
    say(store, "s", "more")
    assert texts(store.get("s").messages) == ["hi", "ok", "more", "ok"]
    assert [row.n_messages for row in store.list()] == [4]
    assert "another program" in problem_of(store)
    assert "memory" in problem_of(store)
    assert store.delete("s")
    assert not store.delete("s")
    assert len(store) == 0
    assert Path(path).read_bytes() == content
    assert os.listdir(os.path.dirname(path)) == ["sessions.db"]


def _folder(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


@pytest.mark.parametrize("make", [_folder, _fifo, _socket])
def test_what_is_no_file_is_reported_and_sessions_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    make(Path("odd"))
    store = stored("odd")
    say(store, "s", "hi")
    assert texts(store.get("s").messages) == ["hi", "ok"]
    assert "regular file" in problem_of(store)


def test_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = stored(str(tmp_path / "file" / "sessions.db"))
    say(store, "s", "hi")
    assert texts(store.get("s").messages) == ["hi", "ok"]
    assert "VLLM_SESSION_DB" in problem_of(store)


def test_memory_without_a_file_holds_no_more_sessions_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = stored(str(tmp_path / "file" / "sessions.db"), max_sessions=2)
    for session_id in "abac":
        say(store, session_id, "hi")
    assert len(store) == 2


# Files that cannot be used now


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Another program in the middle of something that nobody may read."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("UPDATE sessions SET updated = updated")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_locked_file_loses_no_turn_and_gets_it_later(path: str) -> None:
    filled(path)
    store = stored(path)
    with locked(path):
        say(store, "old", "meanwhile")
        say(store, "old", "and again")
        assert texts(store.get("old").messages) == ["meanwhile", "ok", "and again", "ok"]
        assert "locked" in problem_of(store)
        with pytest.raises(StoreUnavailable, match="not deleted"):
            store.delete("old")
        assert len(store) == 1
    say(store, "other", "hi")
    assert store.problem() is None
    again = texts(stored(path).get("old").messages)
    assert len(again) == 8
    assert again[4:] == ["meanwhile", "ok", "and again", "ok"]
    assert texts(store.get("old").messages) == again


def test_turn_that_could_not_see_the_system_message_leaves_it_in_place(path: str) -> None:
    store = stored(path)
    store.commit(store.plan("s", [message("system", "S"), message("user", "one")], 4), message("assistant", "ok"))
    store.close()
    again = stored(path)
    with locked(path):
        say(again, "s", "two")
    say(again, "other", "hi")
    assert texts(stored(path).get("s").messages) == ["S", "one", "ok", "two", "ok"]


def test_full_disk_loses_no_turn_and_gets_it_later(path: str) -> None:
    store = stored(path)
    say(store, "s", "one")
    connection = store._backend._db._connection  # type: ignore[attr-defined]
    (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {n_pages}")
    say(store, "s", "two " * 20_000)
    assert "full" in problem_of(store)
    assert store.get("s").n_messages == 4  # by now in a file opened anew, where there is room
    assert store.problem() is None
    assert stored(path).get("s").n_messages == 4


def test_full_disk_while_it_lasts(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(path)
    say(store, "s", "one")
    store.close()
    pages = Path(path).stat().st_size // 4096
    really = db_file._prepare

    def prepare(connection: sqlite3.Connection, path: str) -> None:
        really(connection, path)
        connection.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(db_file, "_prepare", prepare)
    for number in range(3):
        say(store, "s", f"{number} " * 20_000, make_image(number))
        assert "full" in problem_of(store)
    assert store.get("s").n_messages == 8
    assert [row.n_messages for row in store.list()] == [8]
    assert [row.n_messages for row in stored(path).list()] == [2]
    monkeypatch.setattr(db_file, "_prepare", really)
    store.close()
    say(store, "t", "room again")
    assert store.problem() is None
    assert stored(path).get("s").n_messages == 8


def test_file_that_was_deleted_is_made_again(path: str) -> None:
    store = stored(path)
    say(store, "s", "one")
    for file in Path(path).parent.iterdir():
        file.unlink()
    say(store, "s", "two")
    assert texts(stored(path).get("s").messages) == ["two", "ok"]
    assert store.problem() is None


@pytest.mark.parametrize("existing", [False, True])
def test_folder_that_is_read_only_loses_no_turn(tmp_path: Path, existing: bool) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    path = str(folder / "sessions.db")
    if existing:
        os.chmod(filled(path), 0o444)
    folder.chmod(0o555)
    content = Path(path).read_bytes() if existing else None

    def use() -> str:
        store = stored(path)
        say(store, "s", "hi")
        assert texts(store.get("s").messages) == ["hi", "ok"]
        return problem_of(store)

    assert "memory only" in as_nobody(use, tmp_path)
    assert [file.read_bytes() for file in folder.iterdir()] == ([content] if existing else [])


def as_nobody(use: Callable[[], str], readable: Path) -> str:
    """What a function returns in a process of a user whom permissions hold, which they do not hold root to."""
    if os.geteuid() != 0:
        return use()
    for folder in (readable, *readable.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            os.write(writing, use().encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer
