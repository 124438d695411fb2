"""The interface of a session backend, and the backend that stores sessions in memory only."""

from __future__ import annotations

from typing import Protocol

from engine.sessions.session import Session, SessionRow, models_of, row_of


class SessionBackend(Protocol):
    """Stores sessions for `SessionStore`, which calls one method at a time."""

    def rows(self) -> list[SessionRow]:
        """All sessions, oldest created first."""

    def models(self) -> dict[str, str]:
        """The model of the last reply of each session, by its id, where that is known."""

    def find(self, session_id: str) -> Session | None:
        """The session with that id; `None` if there is none."""

    def save(self, session: Session, base: Session | None) -> None:
        """Stores a session that continues `base`; a new one (`base` is `None`) may evict the one created first."""

    def delete(self, session_id: str) -> bool:
        """Deletes a session; returns False if there was none.

        Raises: `StoreUnavailable` when it cannot be deleted now.
        """

    def problem(self) -> str | None:
        """What is wrong with the storage, as a sentence for the caller; `None` if nothing is."""

    def close(self) -> None:
        """Closes what is open; called once, when the server ends, from any thread."""


class MemoryBackend:
    """Stores at most `max_sessions` sessions in memory."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: dict[str, Session] = {}
        self._rows: dict[str, SessionRow] = {}
        """Built when a session is saved: they are needed after every turn, and counting all messages takes time."""

    def rows(self) -> list[SessionRow]:
        """All sessions, oldest created first."""
        return list(self._rows.values())

    def models(self) -> dict[str, str]:
        """The model of the last reply of each session, by its id, where that is known."""
        return models_of(self._sessions.values())

    def find(self, session_id: str) -> Session | None:
        """The session with that id; `None` if there is none."""
        return self._sessions.get(session_id)

    def save(self, session: Session, base: Session | None) -> None:
        """Stores a session; a new one may evict the one created first."""
        while session.id not in self._sessions and len(self._sessions) >= self._max_sessions:
            self.delete(next(iter(self._sessions)))
        self._sessions[session.id] = session
        self._rows[session.id] = row_of(session)

    def delete(self, session_id: str) -> bool:
        """Deletes a session; returns False if there was none."""
        self._rows.pop(session_id, None)
        return self._sessions.pop(session_id, None) is not None

    def problem(self) -> str | None:
        """Memory has no problems."""
        return None

    def close(self) -> None:
        """Nothing is open."""
