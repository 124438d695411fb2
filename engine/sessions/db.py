"""Reads and writes sessions in the SQLite file.

A turn is written in one transaction that takes the same time however long the session is. An image, audio or video is
stored once, in the table `pictures`, and deleted with the last turn that contains it. Several servers may use one file:
a transaction deletes and adds single turns, and does not touch turns that another server has added.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from engine.errors import StoreDamaged, StoreNewer
from engine.parts import Media
from engine.sessions import db_file
from engine.sessions.codec import (
    MediaRecord,
    checksum,
    decode_media,
    decode_messages,
    encode_media,
    encode_messages,
    last_model,
)
from engine.sessions.session import Session, SessionRow, Turn, media_of

SYSTEM_KEY = 0
"""The turn key of the system messages; other turns have greater keys."""
CLOSE_WAIT_S = 0.2

Version = tuple[int, int]
"""A session's row id and revision: differs after every change, and after a session is created again under its name."""


class SessionDb:
    """The session file: opened on first use, and reopened when another file has replaced it.

    All methods raise `StoreUnavailable` and its subclasses. An error closes the file; the next method opens it again.

    Arguments:
        path: of the file.
        max_sessions: the maximum number of sessions; a new one evicts the oldest.
        on_notice: called with a sentence when the file cannot be used and another one is.
    """

    def __init__(self, path: str, max_sessions: int, on_notice: Callable[[str], None]) -> None:
        self._wanted_path = os.path.realpath(path)
        self._path = self._wanted_path
        self._max_sessions = max_sessions
        self._on_notice = on_notice
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: db_file.Identity | None = None

    def rows(self) -> list[SessionRow]:
        """The rows of all sessions, oldest first; does not create a file."""
        with self._reading() as connection:
            if connection is None:
                return []
            query = "SELECT name, created, updated, n_messages, n_images, image_bytes FROM sessions ORDER BY id"
            return [SessionRow(*row) for row in connection.execute(query)]

    def models(self) -> dict[str, str]:
        """The model of the last reply of each session, where that is known; does not create a file."""
        with self._reading() as connection:
            if connection is None:
                return {}
            query = (
                "SELECT name, messages, checksum FROM turns JOIN sessions ON sessions.id = session "
                "WHERE turns.id IN (SELECT max(id) FROM turns WHERE key != ? GROUP BY session)"
            )
            last = connection.execute(query, (SYSTEM_KEY,)).fetchall()
        models = {name: last_model(_checked(record, expected)) for name, record, expected in last}
        return {name: model for name, model in models.items() if model is not None}

    def version(self, session_id: str) -> Version | None:
        """The session's version; `None` if there is no such session. Does not create a file."""
        with self._reading() as connection:
            return None if connection is None else _version(connection, session_id)

    def load(self, session_id: str, shared: dict[str, Media]) -> Session | None:
        """Loads a session; media that `shared` has by digest are not decoded again."""
        with self._reading() as connection:
            if connection is None:
                return None
            connection.execute("BEGIN")  # all queries see one state of the file
            query = "SELECT id, revision, created, updated FROM sessions WHERE name = ?"
            row = connection.execute(query, (session_id,)).fetchone()
            turns = [] if row is None else list(_turns(connection, row[0], dict(shared)))
            connection.execute("COMMIT")
            if row is None:
                return None
            number, revision, created, updated = row
            system = next((turn.messages for turn in turns if turn.key == SYSTEM_KEY), ())
            rest = tuple(turn for turn in turns if turn.key != SYSTEM_KEY)
            return Session(session_id, created, updated, system, rest, (number, revision))

    def save(self, session: Session, base: Session | None) -> Version | None:
        """Stores the changes of a session since `base`, its state in the file.

        A session that is not in the file is created and evicts the oldest ones beyond the maximum. If `base` had been
        in the file, it was deleted, and its turns are not stored again.

        Returns: the new version; `None` if another server had changed the session, which must then be loaded again.
        """
        known = {turn.key for turn in base.turns} if base is not None else set()
        kept = {turn.key for turn in session.turns}
        added = [turn for turn in session.turns if turn.key not in known]
        with self._writing() as connection:
            encoded = dict(_encoded(connection, media_of(session.system), *(turn.media for turn in added)))
            connection.execute("BEGIN IMMEDIATE")
            before = _version(connection, session.id)
            if before is None:
                self._evict(connection)
                after = _new_session(connection, session)
            else:
                after = before[0], before[1] + 1
                _delete_turns(connection, after[0], known - kept)
            if before is None or session.system != (base.system if base is not None else ()):
                _delete_turns(connection, after[0], {SYSTEM_KEY})
                if session.system:
                    _add_turn(connection, after[0], Turn(session.system, SYSTEM_KEY), encoded)
            for turn in added:
                _add_turn(connection, after[0], turn, encoded)
            _update_session(connection, after, session.updated)
            connection.execute("COMMIT")
        unchanged = before == (base.version if base is not None else None)
        return after if unchanged else None

    def delete(self, session_id: str) -> bool:
        """Deletes a session and the media that no other session has, and frees their space; does not create a file."""
        if self._missing():
            return False
        with self._writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            version = _version(connection, session_id)
            if version is not None:
                _delete_sessions(connection, [version[0]])
            connection.execute("COMMIT")
            if version is None:
                return False
            # The log still has the messages; it is truncated once no other server is reading it.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
            return True

    def rename_damaged(self) -> None:
        """Renames a damaged file; the next method creates a new one."""
        with self._lock:
            damaged, path = self._identity, self._path
            self._close()
            new_name = db_file.rename_damaged(path, damaged)
        if new_name is not None:
            name = os.path.basename(path)
            self._on_notice(f"The session file {name} was damaged: it is renamed to {new_name}, a new one is in use.")

    def close(self) -> None:
        """Closes the file, from any thread; a running transaction ends with the process."""
        if self._lock.acquire(timeout=CLOSE_WAIT_S):
            try:
                self._close()
            finally:
                self._lock.release()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if self._missing():
            yield None
        else:
            with self._writing() as connection:
                yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                connection = self._opened()
                with db_file.translated(self._path):
                    yield connection
            except BaseException:
                self._close()  # rolls back
                raise

    def _missing(self) -> bool:
        return db_file.identity(self._wanted_path) is None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and db_file.identity(self._path) != self._identity:
            self._close()
        if self._connection is None:
            self._path, self._identity = self._wanted_path, db_file.identity(self._wanted_path)
            try:
                self._connection = db_file.connect(self._path)
            except StoreNewer as newer:
                self._path = f"{self._wanted_path}.v{db_file.SCHEMA_VERSION}"
                self._identity = db_file.identity(self._path)
                self._connection = db_file.connect(self._path)
                self._on_notice(f"{newer} Sessions are stored in {os.path.basename(self._path)} instead.")
            self._identity = db_file.identity(self._path)
        return self._connection

    def _evict(self, connection: sqlite3.Connection) -> None:
        (n_sessions,) = connection.execute("SELECT count(*) FROM sessions").fetchone()
        query = "SELECT id FROM sessions ORDER BY id LIMIT ?"
        surplus = connection.execute(query, (max(0, n_sessions + 1 - self._max_sessions),)).fetchall()
        _delete_sessions(connection, [number for (number,) in surplus])

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _version(connection: sqlite3.Connection, session_id: str) -> Version | None:
    query = "SELECT id, revision FROM sessions WHERE name = ?"
    found: Version | None = connection.execute(query, (session_id,)).fetchone()
    return found


def _turns(connection: sqlite3.Connection, session: int, known: dict[str, Media]) -> Iterator[Turn]:
    query = "SELECT key, messages, checksum FROM turns WHERE session = ? ORDER BY id"
    for key, record, expected in connection.execute(query, (session,)).fetchall():
        yield Turn(decode_messages(_checked(record, expected), lambda digest: _media(connection, digest, known)), key)


def _checked(record: object, expected: int) -> bytes:
    if not isinstance(record, bytes) or checksum(record) != expected:
        raise StoreDamaged("a stored turn has a wrong checksum")
    return record


def _new_session(connection: sqlite3.Connection, session: Session) -> Version:
    statement = "INSERT INTO sessions (name, created, updated, revision, n_messages, n_images, image_bytes) "
    cursor = connection.execute(
        statement + "VALUES (?, ?, ?, 1, 0, 0, 0)", (session.id, session.created, session.updated)
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid, 1


def _update_session(connection: sqlite3.Connection, version: Version, updated: float) -> None:
    connection.execute(
        "UPDATE sessions SET revision = ?, updated = max(updated, ?) WHERE id = ?", (version[1], updated, version[0])
    )


def _count(connection: sqlite3.Connection, session: int, sign: int, counts: Sequence[int]) -> None:
    connection.execute(
        "UPDATE sessions SET n_messages = n_messages + ?, n_images = n_images + ?, image_bytes = image_bytes + ? "
        "WHERE id = ?",
        (*(sign * count for count in counts), session),
    )


def _add_turn(connection: sqlite3.Connection, session: int, turn: Turn, encoded: dict[str, MediaRecord]) -> None:
    record = encode_messages(turn.messages)
    counts = (len(turn.messages), len(turn.images), sum(part.n_bytes for part in turn.media))
    cursor = connection.execute(
        "INSERT OR IGNORE INTO turns (session, key, messages, checksum, n_messages, n_images, image_bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (session, turn.key, record, checksum(record), *counts),
    )
    if not cursor.rowcount:  # another server has already stored this turn of a damaged file
        return
    for digest, part in {part.digest: part for part in turn.media}.items():
        if not _has_media(connection, digest):
            record_of_part = encoded.get(digest) or encode_media(part)
            statement = "INSERT INTO pictures (digest, mode, width, height, pixels) VALUES (?, ?, ?, ?, ?)"
            connection.execute(statement, (digest, *record_of_part))
        connection.execute("INSERT INTO turn_pictures (turn, digest) VALUES (?, ?)", (cursor.lastrowid, digest))
    _count(connection, session, 1, counts)


def _delete_turns(connection: sqlite3.Connection, session: int, keys: Iterable[int]) -> None:
    for key in keys:
        query = "SELECT id, n_messages, n_images, image_bytes FROM turns WHERE session = ? AND key = ?"
        row = connection.execute(query, (session, key)).fetchone()
        if row is None:  # another server has already deleted it
            continue
        digests = _digests(connection, "SELECT digest FROM turn_pictures WHERE turn = ?", row[0])
        connection.execute("DELETE FROM turns WHERE id = ?", (row[0],))
        _delete_unused_media(connection, digests)
        _count(connection, session, -1, row[1:])


def _delete_sessions(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    query = "SELECT DISTINCT digest FROM turn_pictures JOIN turns ON turns.id = turn WHERE session = ?"
    for number in numbers:
        digests = _digests(connection, query, number)
        connection.execute("DELETE FROM sessions WHERE id = ?", (number,))
        _delete_unused_media(connection, digests)


def _digests(connection: sqlite3.Connection, query: str, number: int) -> list[str]:
    return [digest for (digest,) in connection.execute(query, (number,)).fetchall()]


def _delete_unused_media(connection: sqlite3.Connection, digests: Iterable[str]) -> None:
    connection.executemany(
        "DELETE FROM pictures WHERE digest = ? "
        "AND NOT EXISTS (SELECT 1 FROM turn_pictures WHERE turn_pictures.digest = pictures.digest)",
        [(digest,) for digest in digests],
    )


def _has_media(connection: sqlite3.Connection, digest: str) -> bool:
    return connection.execute("SELECT 1 FROM pictures WHERE digest = ?", (digest,)).fetchone() is not None


def _encoded(connection: sqlite3.Connection, *groups: Sequence[Media]) -> Iterator[tuple[str, MediaRecord]]:
    """Encodes the media that the file lacks, before a transaction locks out other servers."""
    for digest, part in {part.digest: part for group in groups for part in group}.items():
        if not _has_media(connection, digest):
            yield digest, encode_media(part)


def _media(connection: sqlite3.Connection, digest: str, known: dict[str, Media]) -> Media:
    if digest not in known:
        query = "SELECT mode, width, height, pixels FROM pictures WHERE digest = ?"
        row = connection.execute(query, (digest,)).fetchone()
        if row is None:
            raise StoreDamaged("a stored image is missing")
        known[digest] = decode_media(MediaRecord(*row), digest)
    return known[digest]
