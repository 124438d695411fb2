"""Stores sessions in a SQLite file, and caches the most recently used ones in memory.

An answered turn is not lost while the server runs, even if the file fails: a session that cannot be stored stays in
memory, `problem` reports it, and it is stored as soon as the file can be written.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from engine.errors import StoreAbsent, StoreDamaged, StoreUnavailable
from engine.sessions.db import SessionDb
from engine.sessions.session import Session, SessionRow, models_of, row_of

log = logging.getLogger("engine")

T = TypeVar("T")

LOADED_BYTES = 256 << 20
"""The size of the cache; the session used last stays in it whatever its size."""


class SqliteBackend:
    """A `SessionBackend` that uses a SQLite file.

    Arguments:
        path: of the file.
        max_sessions: the maximum number of sessions.
        loaded_bytes: the size of the cache.
    """

    def __init__(self, path: str, max_sessions: int, loaded_bytes: int = LOADED_BYTES) -> None:
        self._path = path
        self._max_sessions = max_sessions
        self._loaded_bytes = loaded_bytes
        self._db = SessionDb(path, max_sessions, self._notice)
        self._loaded: OrderedDict[str, Session] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._unsaved: dict[str, Session | None] = {}
        """The sessions that are not yet in the file, each with its last state in the file."""
        self._notices: list[str] = []
        self._failure: str | None = None

    def rows(self) -> list[SessionRow]:
        """All sessions, oldest first; only those in memory if the file cannot be read."""
        try:
            stored = self._recovering(self._db.rows)
        except StoreUnavailable as error:
            self._fail(error)
            return [row_of(session) for session in sorted(self._loaded.values(), key=lambda session: session.created)]
        unsaved = {session_id: row_of(self._loaded[session_id]) for session_id in self._unsaved}
        return [unsaved.pop(row.id, row) for row in stored] + list(unsaved.values())

    def models(self) -> dict[str, str]:
        """The model of the last reply of each session; only of those in memory if the file cannot be read."""
        try:
            stored = self._recovering(self._db.models)
        except StoreUnavailable as error:
            self._fail(error)
            return models_of(self._loaded.values())
        return {**stored, **models_of(self._loaded[session_id] for session_id in self._unsaved)}

    def find(self, session_id: str) -> Session | None:
        """The session with that id, from the file; from memory if the file cannot be read."""
        if session_id in self._unsaved:
            self._flush()
        try:
            found = self._recovering(lambda: self._current(session_id))
        except StoreUnavailable as error:
            self._fail(error)
            return self._loaded.get(session_id)
        if found is None:
            self._forget(session_id)
        else:
            self._cache(found)
        return found

    def save(self, session: Session, base: Session | None) -> None:
        """Stores a session in memory, and in the file if possible."""
        self._unsaved.setdefault(session.id, base)
        self._cache(session)
        self._flush()

    def delete(self, session_id: str) -> bool:
        """Deletes a session from the file and from memory; returns False if there was none.

        Raises: `StoreUnavailable` when the file cannot be changed; then nothing is deleted.
        """
        try:
            stored = self._recovering(lambda: self._db.delete(session_id))
        except StoreAbsent:
            stored = False
        except StoreUnavailable as error:
            self._fail(error)
            raise StoreUnavailable(f"{error} The session was not deleted; try again.") from error
        unsaved = session_id in self._unsaved
        self._forget(session_id)
        return stored or unsaved

    def problem(self) -> str | None:
        """What happened to a file that could not be used, and why sessions are only in memory, if they are."""
        return " ".join((*self._notices, *([self._failure] if self._failure else []))) or None

    def close(self) -> None:
        """Closes the file, from any thread."""
        self._db.close()

    def _current(self, session_id: str) -> Session | None:
        loaded = self._loaded.get(session_id)
        if session_id in self._unsaved or (loaded is not None and loaded.version == self._db.version(session_id)):
            return loaded
        media = {part.digest: part for session in self._loaded.values() for part in session.media}
        return self._db.load(session_id, media)

    def _flush(self) -> None:
        """Stores the unsaved sessions, oldest first."""
        try:
            while self._unsaved:
                self._recovering(self._store_oldest)
        except StoreUnavailable as error:
            self._fail(error)
            while len(self._unsaved) > self._max_sessions:
                self._forget(next(iter(self._unsaved)))
        self._evict()

    def _store_oldest(self) -> None:
        session_id = next(iter(self._unsaved))
        session = self._loaded[session_id]
        version = self._db.save(session, self._unsaved[session_id])
        del self._unsaved[session_id]
        # Without a version, the next `find` loads the changes of both servers.
        self._loaded[session_id] = dataclasses.replace(session, version=version)

    def _recovering(self, use: Callable[[], T]) -> T:
        """Calls `use`; if the file is damaged, calls it again with a new file and all sessions of the memory."""
        try:
            result = use()
        except StoreDamaged as damaged:
            log.warning("The session file is damaged: %s (%s)", damaged, self._path)
            self._db.rename_damaged()
            self._unsaved = dict.fromkeys(sorted(self._loaded, key=lambda session_id: self._loaded[session_id].created))
            result = use()
        if not self._unsaved:
            self._failure = None
        return result

    def _cache(self, session: Session) -> None:
        self._loaded[session.id] = session
        self._loaded.move_to_end(session.id)
        self._sizes[session.id] = session.n_bytes
        self._evict()

    def _evict(self) -> None:
        """Drops the least recently used sessions from memory, except unsaved ones."""
        n_bytes = sum(self._sizes.values())
        for session_id in list(self._loaded)[:-1]:
            if n_bytes <= self._loaded_bytes:
                return
            if session_id not in self._unsaved:
                n_bytes -= self._sizes[session_id]
                self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        self._loaded.pop(session_id, None)
        self._sizes.pop(session_id, None)
        self._unsaved.pop(session_id, None)

    def _fail(self, error: StoreUnavailable) -> None:
        failure = f"{error} Until it can be used, sessions are kept in memory only."
        if failure != self._failure:
            log.warning("%s (%s)", failure, self._path)
        self._failure = failure

    def _notice(self, text: str) -> None:
        if text not in self._notices:
            log.warning("%s (%s)", text, self._path)
            self._notices.append(text)
