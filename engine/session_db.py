"""The sessions in a SQLite file: rows to list, whole sessions to load, and what is new in a turn to add.

A turn costs one transaction that writes the turn's own records, however long the session is. Each picture is there
once, however many turns and sessions show it, and goes with the last of them. Several servers may use one file: a
transaction takes turns away and adds turns, and leaves alone those that another server has added meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from engine import session_file
from engine.errors import StoreDamaged, StoreNewer
from engine.interface import ImagePart
from engine.session import Session, SessionRow, Turn, images_of
from engine.session_records import (
    PictureRecord,
    checksum,
    decode_messages,
    decode_picture,
    encode_messages,
    encode_picture,
)

SYSTEM_KEY = 0
"""The key of the record that holds the system messages; turns have greater ones."""
CLOSE_WAIT_S = 0.2

Version = tuple[int, int]
"""A session's row and revision: changes with every change, and when a session is made anew under its old name."""


class SessionDb:
    """The file, opened when it is first needed, and again when somebody has put another in its place.

    All methods raise `StoreUnavailable` and its kinds; after any of them the file is closed, and opened by the next.

    Arguments: the file's path; `max_sessions`, how many a new session may make them; `on_notice`, told in a sentence
    what became of a file that could not be used.
    """

    def __init__(self, path: str, max_sessions: int, on_notice: Callable[[str], None]) -> None:
        self._wanted_path = os.path.realpath(path)
        self._path = self._wanted_path
        self._max_sessions = max_sessions
        self._on_notice = on_notice
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: session_file.Identity | None = None

    def rows(self) -> list[SessionRow]:
        """What there is to tell of all sessions, oldest created first; makes no file where there is none."""
        with self._reading() as connection:
            if connection is None:
                return []
            query = "SELECT name, created, updated, n_messages, n_images, image_bytes FROM sessions ORDER BY id"
            return [SessionRow(*row) for row in connection.execute(query)]

    def version(self, session_id: str) -> Version | None:
        """Which state the session is in, `None` where there is none of that id; makes no file."""
        with self._reading() as connection:
            return None if connection is None else _version(connection, session_id)

    def load(self, session_id: str, shared: dict[str, ImagePart]) -> Session | None:
        """The whole session, its pictures decoded, save those in `shared` by digest, which are used as they are."""
        with self._reading() as connection:
            if connection is None:
                return None
            connection.execute("BEGIN")  # one state of the file for all that follows
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
        """Stores what sets a session apart from `base`, the state of the file that it grew out of.

        A session that is not there is made, and pushes out those created first where there are too many; what `base`
        had is then left out, since somebody has deleted it.

        Returns the new version; `None` where another server had changed the session, which must be loaded again.
        """
        known = {turn.key for turn in base.turns} if base is not None else set()
        kept = {turn.key for turn in session.turns}
        added = [turn for turn in session.turns if turn.key not in known]
        with self._writing() as connection:
            encoded = dict(_encoded(connection, images_of(session.system), *(turn.images for turn in added)))
            connection.execute("BEGIN IMMEDIATE")
            before = _version(connection, session.id)
            if before is None:
                self._push_out(connection)
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
        """Deletes a session with the pictures that no other has, and gives their place back; makes no file."""
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
            # The log still holds what was said; it goes once no other server is in the middle of reading it.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
            return True

    def set_aside(self) -> None:
        """Puts a damaged file out of the way; the next method makes a fresh one."""
        with self._lock:
            damaged, path = self._identity, self._path
            self._close()
            aside = session_file.set_aside(path, damaged)
        if aside is not None:
            name = os.path.basename(path)
            self._on_notice(f"The session file {name} was damaged: it is set aside as {aside}, a fresh one is in use.")

    def close(self) -> None:
        """Closes the file, from any thread; a transaction that goes on is left to end with the process."""
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
                with session_file.translated(self._path):
                    yield connection
            except BaseException:
                self._close()  # rolls back
                raise

    def _missing(self) -> bool:
        return session_file.identity(self._wanted_path) is None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and session_file.identity(self._path) != self._identity:
            self._close()
        if self._connection is None:
            self._path, self._identity = self._wanted_path, session_file.identity(self._wanted_path)
            try:
                self._connection = session_file.connect(self._path)
            except StoreNewer as newer:
                self._path = f"{self._wanted_path}.v{session_file.SCHEMA_VERSION}"
                self._identity = session_file.identity(self._path)
                self._connection = session_file.connect(self._path)
                self._on_notice(f"{newer} Sessions are stored in {os.path.basename(self._path)} beside it.")
            self._identity = session_file.identity(self._path)
        return self._connection

    def _push_out(self, connection: sqlite3.Connection) -> None:
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


def _turns(connection: sqlite3.Connection, session: int, pictures: dict[str, ImagePart]) -> Iterator[Turn]:
    query = "SELECT key, messages, checksum FROM turns WHERE session = ? ORDER BY id"
    for key, record, expected in connection.execute(query, (session,)).fetchall():
        if not isinstance(record, bytes) or checksum(record) != expected:
            raise StoreDamaged("a stored turn is not what was written")
        yield Turn(decode_messages(record, lambda digest: _picture(connection, digest, pictures)), key)


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


def _add_turn(connection: sqlite3.Connection, session: int, turn: Turn, encoded: dict[str, PictureRecord]) -> None:
    record = encode_messages(turn.messages)
    counts = (len(turn.messages), len(turn.images), sum(image.n_bytes for image in turn.images))
    cursor = connection.execute(
        "INSERT OR IGNORE INTO turns (session, key, messages, checksum, n_messages, n_images, image_bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (session, turn.key, record, checksum(record), *counts),
    )
    if not cursor.rowcount:  # it is there: another server has saved the same turn from a damaged file
        return
    for digest, image in {image.digest: image for image in turn.images}.items():
        if not _has_picture(connection, digest):
            pixels = encoded.get(digest) or encode_picture(image.image)
            statement = "INSERT INTO pictures (digest, mode, width, height, pixels) VALUES (?, ?, ?, ?, ?)"
            connection.execute(statement, (digest, *pixels))
        connection.execute("INSERT INTO turn_pictures (turn, digest) VALUES (?, ?)", (cursor.lastrowid, digest))
    _count(connection, session, 1, counts)


def _delete_turns(connection: sqlite3.Connection, session: int, keys: Iterable[int]) -> None:
    for key in keys:
        query = "SELECT id, n_messages, n_images, image_bytes FROM turns WHERE session = ? AND key = ?"
        row = connection.execute(query, (session, key)).fetchone()
        if row is None:  # another server has dropped it already
            continue
        digests = _digests(connection, "SELECT digest FROM turn_pictures WHERE turn = ?", row[0])
        connection.execute("DELETE FROM turns WHERE id = ?", (row[0],))
        _delete_unused_pictures(connection, digests)
        _count(connection, session, -1, row[1:])


def _delete_sessions(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    query = "SELECT DISTINCT digest FROM turn_pictures JOIN turns ON turns.id = turn WHERE session = ?"
    for number in numbers:
        digests = _digests(connection, query, number)
        connection.execute("DELETE FROM sessions WHERE id = ?", (number,))
        _delete_unused_pictures(connection, digests)


def _digests(connection: sqlite3.Connection, query: str, number: int) -> list[str]:
    return [digest for (digest,) in connection.execute(query, (number,)).fetchall()]


def _delete_unused_pictures(connection: sqlite3.Connection, digests: Iterable[str]) -> None:
    connection.executemany(
        "DELETE FROM pictures WHERE digest = ? "
        "AND NOT EXISTS (SELECT 1 FROM turn_pictures WHERE turn_pictures.digest = pictures.digest)",
        [(digest,) for digest in digests],
    )


def _has_picture(connection: sqlite3.Connection, digest: str) -> bool:
    return connection.execute("SELECT 1 FROM pictures WHERE digest = ?", (digest,)).fetchone() is not None


def _encoded(connection: sqlite3.Connection, *groups: Sequence[ImagePart]) -> Iterator[tuple[str, PictureRecord]]:
    """The pictures that the file lacks, made ready before a transaction keeps other servers waiting."""
    for digest, image in {image.digest: image for group in groups for image in group}.items():
        if not _has_picture(connection, digest):
            yield digest, encode_picture(image.image)


def _picture(connection: sqlite3.Connection, digest: str, known: dict[str, ImagePart]) -> ImagePart:
    if digest not in known:
        query = "SELECT mode, width, height, pixels FROM pictures WHERE digest = ?"
        row = connection.execute(query, (digest,)).fetchone()
        if row is None:
            raise StoreDamaged("a stored picture is gone")
        known[digest] = ImagePart(decode_picture(PictureRecord(*row)), digest)
    return known[digest]
