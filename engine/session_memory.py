"""Where sessions are kept: the interface, and its simplest form, which forgets them at the end of the server."""

from __future__ import annotations

from typing import Protocol

from engine.session import Session, SessionRow, row_of


class Keeper(Protocol):
    """Keeps sessions for `SessionStore`, which asks it for one thing at a time."""

    def rows(self) -> list[SessionRow]:
        """All sessions, oldest created first."""

    def find(self, session_id: str) -> Session | None:
        """The session of that id, `None` when there is none."""

    def save(self, session: Session, base: Session | None) -> None:
        """Keeps a session that grew out of `base` (`None` for a new one, which may push out the one created first)."""

    def delete(self, session_id: str) -> bool:
        """Forgets a session; False when there was none.

        Raises: `StoreUnavailable` when it cannot be forgotten now.
        """

    def problem(self) -> str | None:
        """What is wrong with the keeping, as a sentence for the caller; `None` when all is well."""

    def close(self) -> None:
        """Lets go of what is open; called once, at the end of the server, from any thread."""


class SessionMemory:
    """Keeps sessions in memory alone.

    Arguments: `max_sessions`, how many.
    """

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: dict[str, Session] = {}
        self._rows: dict[str, SessionRow] = {}
        """Made when a session is saved: they are asked for after every turn, and counting all messages takes time."""

    def rows(self) -> list[SessionRow]:
        """All sessions, oldest created first."""
        return list(self._rows.values())

    def find(self, session_id: str) -> Session | None:
        """The session of that id."""
        return self._sessions.get(session_id)

    def save(self, session: Session, base: Session | None) -> None:
        """Keeps a session; a new one may push out the one created first."""
        while session.id not in self._sessions and len(self._sessions) >= self._max_sessions:
            self.delete(next(iter(self._sessions)))
        self._sessions[session.id] = session
        self._rows[session.id] = row_of(session)

    def delete(self, session_id: str) -> bool:
        """Forgets a session; False when there was none."""
        self._rows.pop(session_id, None)
        return self._sessions.pop(session_id, None) is not None

    def problem(self) -> str | None:
        """Memory has none."""
        return None

    def close(self) -> None:
        """There is nothing to let go of."""
