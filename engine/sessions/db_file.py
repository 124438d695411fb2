"""Opens, creates and renames the SQLite file of the sessions.

A file of another program is not changed. Nor is a file of a newer server, which may be running: a file with another
name in the same folder is used then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
import struct
import time
from collections.abc import Iterator

from engine.errors import StoreAbsent, StoreDamaged, StoreNewer, StoreUnavailable
from operating_system import folders
from operating_system.files import BINARY

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
"""How long a statement waits for another process. Storing a turn takes milliseconds, or more with a large image."""
MAX_WAL_BYTES = 64 << 20

Identity = tuple[int, int]
"""Device and inode: they differ when another file has replaced the opened one."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_VERSION_AT, _APPLICATION_AT = 60, 68


def identity(path: str) -> Identity | None:
    """The identity of the file at the path now; `None` if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: str) -> sqlite3.Connection:
    """Opens the file; creates it and its folder if there is none. After an error, an existing file is unchanged.

    Raises: `StoreDamaged`, `StoreNewer`; `StoreAbsent` for a file of another program, or one that cannot be created;
    `StoreUnavailable`.
    """
    _create(path)
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
    """Translates SQLite's errors to ours."""
    name = os.path.basename(path)
    try:
        yield
    except UnicodeDecodeError as error:  # in a text, or in an SQLite error text about a table
        raise StoreDamaged("a text is not UTF-8") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreDamaged(str(error)) from error
        raise StoreUnavailable(f"The session file {name} cannot be used ({error}).") from error


def rename_damaged(path: str, damaged: Identity | None) -> str | None:
    """Renames a damaged file with its log; returns the new name, or `None` if another server has renamed it.

    Arguments:
        path: of the file.
        damaged: the identity of the damaged file.

    Raises: `StoreUnavailable`.
    """
    folder, name = os.path.split(path)
    try:
        with folders.locked(folder):
            if identity(path) != damaged:
                return None
            return _rename(path, ("-wal", "-shm", ""))
    except OSError as error:
        raise StoreUnavailable(
            f"The session file {name} is damaged and cannot be renamed ({error.strerror})."
        ) from error


def _rename(path: str, suffixes: tuple[str, ...]) -> str:
    """Renames the existing files, the log first: SQLite would apply a remaining log to the next file."""
    target = f"{path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    for suffix in suffixes:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, target + suffix)
    return os.path.basename(target)


def _create(path: str) -> None:
    """Creates the folder and the file if missing; an empty file counts as missing. The file is complete before it gets
    its name, so other servers never open an incomplete one."""
    folder, name = os.path.split(path)
    try:
        _create_folders(folder)
        if not _is_missing(path):
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would hang
                raise StoreAbsent(f"VLLM_SESSION_DB names {name}, which is not a regular file.")
            return
        with folders.locked(folder):
            if _is_missing(path):
                _create_file(f"{path}.new")
                _rename(path, ("-wal", "-shm"))
                os.replace(f"{path}.new", path)
    except OSError as error:
        raise StoreAbsent(
            f"The session file {name} cannot be created ({error.strerror}): check VLLM_SESSION_DB."
        ) from error


def _create_folders(folder: str) -> None:
    """Creates a folder and its missing parents with mode 0o700; `os.makedirs` applies the mode to the last one only."""
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


def _create_file(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # left by a server that was killed while creating it
        os.unlink(path)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | BINARY, 0o600)  # conversations are private
    try:
        with translated(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # the file is synced once at the end
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
    """Checks the file before SQLite opens it, which would repair and lock even a file of another program."""
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise StoreUnavailable(f"The session file {name} cannot be read ({error.strerror}).") from error
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise StoreDamaged("it is not an SQLite file")
    (version,) = struct.unpack_from(">i", header, _VERSION_AT)
    (application,) = struct.unpack_from(">i", header, _APPLICATION_AT)
    _check_marks(application, version, name)


def _check_marks(application: int, version: int, name: str) -> None:
    if application != APPLICATION_ID:
        raise StoreAbsent(
            f"VLLM_SESSION_DB names {name}, a file of another program, which is not changed. Choose another file."
        )
    if version > SCHEMA_VERSION:
        raise StoreNewer(f"The session file {name} was written by a newer server and is not changed.")
    if version < SCHEMA_VERSION:
        raise StoreDamaged("its version is unknown")


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # deleted messages must not stay in free pages
    connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
    # In WAL mode, NORMAL passes each committed turn to the operating system before the result is sent, so it survives a
    # kill of this process. A power loss or a system crash may lose the last turns, but not the file. FULL would keep
    # these too, and sync the disk for each turn.
    connection.execute("PRAGMA synchronous = NORMAL")
    _check_marks(_pragma(connection, "application_id"), _pragma(connection, "user_version"), os.path.basename(path))
    if STATEMENTS - _schema(connection):
        raise StoreDamaged("its tables have been changed")


def _text(data: bytes) -> str:
    return data.decode("utf-8")  # sqlite3's own decoder raises an error that looks like a lock


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _schema(connection: sqlite3.Connection) -> set[str | None]:
    """The statements that created the tables and indexes of the file."""
    return {statement for (statement,) in connection.execute("SELECT sql FROM sqlite_master")}
