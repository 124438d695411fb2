"""Keeps sessions in a file, and those used last in memory too.

Whatever becomes of the file, a turn that was answered is not lost while the server runs: a session that cannot be
stored stays in memory, `problem` says so, and it is stored with the next turn that can be.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from engine.errors import StoreAbsent, StoreDamaged, StoreUnavailable
from engine.session import Session, SessionRow, row_of
from engine.session_db import SessionDb

log = logging.getLogger("engine")

Answer = TypeVar("Answer")

LOADED_BYTES = 256 << 20
"""How much of the sessions stays in memory beside the file; the session used last stays whatever its size."""


class SessionStorage:
    """A `Keeper` over a file.

    Arguments: the file's path; `max_sessions`, how many; `loaded_bytes`, how much of them stays in memory.
    """

    def __init__(self, path: str, max_sessions: int, loaded_bytes: int = LOADED_BYTES) -> None:
        self._path = path
        self._max_sessions = max_sessions
        self._loaded_bytes = loaded_bytes
        self._db = SessionDb(path, max_sessions, self._notice)
        self._loaded: OrderedDict[str, Session] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._unsaved: dict[str, Session | None] = {}
        """The sessions that the file lacks, each with the last state of it that the file had."""
        self._notices: list[str] = []
        self._failure: str | None = None

    def rows(self) -> list[SessionRow]:
        """All sessions, oldest created first; those in memory alone where the file cannot be read."""
        try:
            stored = self._mended(self._db.rows)
        except StoreUnavailable as error:
            self._fail(error)
            return [row_of(session) for session in sorted(self._loaded.values(), key=lambda session: session.created)]
        unsaved = {session_id: row_of(self._loaded[session_id]) for session_id in self._unsaved}
        return [unsaved.pop(row.id, row) for row in stored] + list(unsaved.values())

    def find(self, session_id: str) -> Session | None:
        """The session of that id, as the file has it now; as memory has it where the file cannot be read."""
        if session_id in self._unsaved:
            self._flush()
        try:
            found = self._mended(lambda: self._current(session_id))
        except StoreUnavailable as error:
            self._fail(error)
            return self._loaded.get(session_id)
        if found is None:
            self._forget(session_id)
        else:
            self._hold(found)
        return found

    def save(self, session: Session, base: Session | None) -> None:
        """Keeps a session: in the file if that can be, in memory in any case."""
        self._unsaved.setdefault(session.id, base)
        self._hold(session)
        self._flush()

    def delete(self, session_id: str) -> bool:
        """Forgets a session, in the file and in memory; False when there was none.

        Raises: `StoreUnavailable` when the file may have it and cannot be changed; then nothing is forgotten.
        """
        try:
            stored = self._mended(lambda: self._db.delete(session_id))
        except StoreAbsent:
            stored = False
        except StoreUnavailable as error:
            self._fail(error)
            raise StoreUnavailable(f"{error} The session was not deleted; ask again.") from error
        held = session_id in self._unsaved
        self._forget(session_id)
        return stored or held

    def problem(self) -> str | None:
        """What became of a file that could not be used, and why sessions are in memory alone, if they are."""
        return " ".join((*self._notices, *([self._failure] if self._failure else []))) or None

    def close(self) -> None:
        """Closes the file, from any thread."""
        self._db.close()

    def _current(self, session_id: str) -> Session | None:
        held = self._loaded.get(session_id)
        if session_id in self._unsaved:
            return held
        if held is not None and held.version == self._db.version(session_id):
            return held
        pictures = {image.digest: image for session in self._loaded.values() for image in session.images}
        return self._db.load(session_id, pictures)

    def _flush(self) -> None:
        """Stores what the file lacks, oldest first, as far as it can be."""
        try:
            while self._unsaved:
                self._mended(self._store_oldest)
        except StoreUnavailable as error:
            self._fail(error)
            while len(self._unsaved) > self._max_sessions:
                self._forget(next(iter(self._unsaved)))
        self._let_go()

    def _store_oldest(self) -> None:
        session_id = next(iter(self._unsaved))
        session = self._loaded[session_id]
        version = self._db.save(session, self._unsaved[session_id])
        del self._unsaved[session_id]
        # Without a version, the next `find` reads what this and another server have made of the session together.
        self._loaded[session_id] = dataclasses.replace(session, version=version)

    def _mended(self, use: Callable[[], Answer]) -> Answer:
        """Uses the file; one that turns out to be damaged is set aside, and a fresh one gets all that memory holds."""
        try:
            answer = use()
        except StoreDamaged as damaged:
            log.warning("The session file is damaged: %s (%s)", damaged, self._path)
            self._db.set_aside()
            self._unsaved = dict.fromkeys(sorted(self._loaded, key=lambda session_id: self._loaded[session_id].created))
            answer = use()
        if not self._unsaved:
            self._failure = None
        return answer

    def _hold(self, session: Session) -> None:
        self._loaded[session.id] = session
        self._loaded.move_to_end(session.id)
        self._sizes[session.id] = session.n_bytes
        self._let_go()

    def _let_go(self) -> None:
        """Drops from memory what the file has and was not used for longest."""
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
        failure = f"{error} Sessions are kept in memory alone until it can be used."
        if failure != self._failure:
            log.warning("%s (%s)", failure, self._path)
        self._failure = failure

    def _notice(self, text: str) -> None:
        if text not in self._notices:
            log.warning("%s (%s)", text, self._path)
            self._notices.append(text)
