"""The SQLite file of the sessions as a file: opened if it is ours, made if there is none, set aside if it is damaged.

A file that is not ours is left as it is. So is one that a newer server wrote, which may be running: then a file of
another name beside it is used.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import stat
import struct
import time
from collections.abc import Iterator

from engine.errors import StoreAbsent, StoreDamaged, StoreNewer, StoreUnavailable

APPLICATION_ID = 0x76_4C_4D_73  # "vLMs"
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    revision INTEGER NOT NULL,
    n_messages INTEGER NOT NULL,
    n_images INTEGER NOT NULL,
    image_bytes INTEGER NOT NULL
);
CREATE TABLE turns (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    key INTEGER NOT NULL,
    messages BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    n_messages INTEGER NOT NULL,
    n_images INTEGER NOT NULL,
    image_bytes INTEGER NOT NULL,
    UNIQUE (session, key)
);
CREATE TABLE pictures (
    digest TEXT PRIMARY KEY,
    mode TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    pixels BLOB NOT NULL
);
CREATE TABLE turn_pictures (
    turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
    digest TEXT NOT NULL REFERENCES pictures,
    PRIMARY KEY (turn, digest)
) WITHOUT ROWID;
CREATE INDEX turn_pictures_by_digest ON turn_pictures (digest);
"""
STATEMENTS = {statement.strip() for statement in SCHEMA.split(";")} - {""}
BUSY_S = 2.0
"""How long a statement waits for another process, which needs milliseconds for a turn, with a large picture more."""
MAX_WAL_BYTES = 64 << 20

Identity = tuple[int, int]
"""Device and inode: tells whether a path still means the file that was opened."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_VERSION_AT, _APPLICATION_AT = 60, 68


def identity(path: str) -> Identity | None:
    """Which file the path means now, `None` when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: str) -> sqlite3.Connection:
    """Opens the file, and makes it and its folder when there is none. Whatever the error, the file is as it was.

    Raises: `StoreDamaged`, `StoreNewer`; `StoreAbsent` when it is not ours or cannot be made; `StoreUnavailable`.
    """
    _make(path)
    _check_header(path)
    with translated(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.text_factory = _text
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Turns SQLite's errors into ours."""
    name = os.path.basename(path)
    try:
        yield
    except UnicodeDecodeError as error:  # in a text, or in SQLite's own words about a table
        raise StoreDamaged("a text is not UTF-8") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreDamaged(str(error)) from error
        raise StoreUnavailable(f"The session file {name} cannot be used ({error}).") from error


def set_aside(path: str, damaged: Identity | None) -> str | None:
    """Renames a damaged file, and what SQLite has beside it; returns its new name.

    `damaged` says which file was found damaged: where another server was quicker, there is nothing left to do, and
    the result is `None`.
    Raises: `StoreUnavailable`.
    """
    folder, name = os.path.split(path)
    try:
        with _folder_locked(folder):
            if identity(path) != damaged:
                return None
            return _rename(path, ("-wal", "-shm", ""))
    except OSError as error:
        raise StoreUnavailable(
            f"The session file {name} is damaged and cannot be set aside ({error.strerror})."
        ) from error


def _rename(path: str, suffixes: tuple[str, ...]) -> str:
    """Renames what there is, the log first: one left behind would be taken for that of the next file."""
    aside = f"{path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    for suffix in suffixes:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    return os.path.basename(aside)


@contextlib.contextmanager
def _folder_locked(folder: str) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make(path: str) -> None:
    """Makes the folder and the file where there is none; an empty file, as some programs make them, is none.

    It is finished before it gets its name, so nobody ever sees a half-made one.
    """
    folder, name = os.path.split(path)
    try:
        _make_folders(folder)
        if not _is_missing(path):
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would hang
                raise StoreAbsent(f"VLLM_SESSION_DB names {name}, which is no regular file.")
            return
        with _folder_locked(folder):
            if _is_missing(path):
                _make_new(f"{path}.new")
                _rename(path, ("-wal", "-shm"))
                os.replace(f"{path}.new", path)
    except OSError as error:
        raise StoreAbsent(
            f"The session file {name} cannot be made ({error.strerror}): check VLLM_SESSION_DB."
        ) from error


def _make_folders(folder: str) -> None:
    """Makes a folder and all that are missing above it for their owner alone; `os.makedirs` sees to the last only."""
    missing = []
    while folder and not os.path.isdir(folder) and folder not in missing:
        missing.append(folder)
        folder = os.path.dirname(folder)
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each, 0o700)


def _is_missing(path: str) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _make_new(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # of a server that was killed right here
        os.unlink(path)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)  # conversations are private
    try:
        with translated(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # one wait for the disk at the end takes the place of ten
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {SCHEMA}; COMMIT;")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        os.fsync(descriptor)
    except BaseException:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(path + suffix)
        raise
    finally:
        os.close(descriptor)


def _check_header(path: str) -> None:
    """Looks at the file before SQLite does, which would begin to mend and lock even what is not ours."""
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise StoreUnavailable(f"The session file {name} cannot be read ({error.strerror}).") from error
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise StoreDamaged("it is no SQLite file")
    (version,) = struct.unpack_from(">i", header, _VERSION_AT)
    (application,) = struct.unpack_from(">i", header, _APPLICATION_AT)
    _check_marks(application, version, name)


def _check_marks(application: int, version: int, name: str) -> None:
    if application != APPLICATION_ID:
        raise StoreAbsent(
            f"VLLM_SESSION_DB names {name}, which another program wrote; it is left as it is. Name another file."
        )
    if version > SCHEMA_VERSION:
        raise StoreNewer(f"The session file {name} was written by a newer server; it is left as it is.")
    if version < SCHEMA_VERSION:
        raise StoreDamaged("its version is unknown")


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what was deleted shall not stay in the file's free pages
    connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
    # In WAL mode, NORMAL hands each committed turn to the system before the answer goes out: it outlives the death of
    # this process, however sudden. A power loss or a crash of the system may cost the last turns, never the file;
    # FULL would keep those too, for one wait for the disk a turn.
    connection.execute("PRAGMA synchronous = NORMAL")
    _check_marks(_pragma(connection, "application_id"), _pragma(connection, "user_version"), os.path.basename(path))
    if STATEMENTS - _schema(connection):
        raise StoreDamaged("its tables are not what was made")


def _text(data: bytes) -> str:
    return data.decode("utf-8")  # sqlite3's own way raises what cannot be told from a lock


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _schema(connection: sqlite3.Connection) -> set[str | None]:
    """The statements that made what is in the file."""
    return {statement for (statement,) in connection.execute("SELECT sql FROM sqlite_master")}
