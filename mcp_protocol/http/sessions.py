"""Sessions of the legacy revisions; each has a connection until it ends or is idle for too long."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from mcp_protocol.connection import Connection, MessageWriter
from mcp_protocol.http.streams import MAX_BACKLOG, Stream

SCAN_S = 1.0
"""Minimum interval between two scans for idle sessions."""


MAX_SESSIONS = 100
"""Clients with a session at a time, for each token; the one that was idle longest ends first."""
IDLE_S = 3600.0
"""A session that was idle for so long ends."""


class TooManySessions(Exception):
    """All sessions that the owner may have are in use."""


class SessionWriter(MessageWriter):
    """Writes messages that belong to no request into the stream that the client has opened for them.

    While no stream is open, the last `MAX_BACKLOG` messages are kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._backlog: deque[bytes] = deque(maxlen=MAX_BACKLOG)

    def write(self, line: bytes) -> None:
        """Writes or keeps one message."""
        with self._lock:
            if self._stream is None:
                self._backlog.append(line)
            else:
                self._stream.write(line)

    def respond(self, line: bytes) -> None:
        """Writes a response of the HTTP+SSE transport; it is dropped when the stream has ended."""
        with self._lock:
            if self._stream is not None:
                self._stream.respond(line)

    def open(self, stream: Stream) -> None:
        """Writes to this stream from now on; an earlier one ends, since its client may have disconnected."""
        with self._lock:
            if self._stream is not None:
                self._stream.close()
            self._stream = stream
            for line in self._backlog:
                stream.write(line)
            self._backlog.clear()

    def close(self, stream: Stream | None = None) -> None:
        """Ends this stream; with None, the open one."""
        with self._lock:
            if self._stream is not None and stream in (None, self._stream):
                self._stream.close()
                self._stream = None


class Session:
    """One session; it is in use while it has open requests or streams."""

    def __init__(self, owner: int) -> None:
        self.id = secrets.token_urlsafe(32)
        self.owner = owner
        self.writer = SessionWriter()
        self.connection = Connection(self.writer, owner)
        self.last_used_s = time.monotonic()
        self.n_uses = 0

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the session from expiring."""
        self.n_uses += 1
        try:
            yield
        finally:
            self.n_uses -= 1
            self.last_used_s = time.monotonic()


class Sessions:
    """The sessions of one transport; used only on the event loop.

    Arguments:
        max_sessions: sessions per owner.
        idle_s: an idle session expires after this time.
        forget: called with the connection of a session that ends.
    """

    def __init__(self, max_sessions: int, idle_s: float, forget: Callable[[Connection], None]) -> None:
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._forget = forget
        self._sessions: dict[str, Session] = {}
        self._next_scan_s = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, owner: int) -> Session:
        """Creates a session. If the owner has too many, the one that was idle longest ends.

        Raises: `TooManySessions`.
        """
        self.end_idle()
        own = [session for session in self._sessions.values() if session.owner == owner]
        if len(own) >= self._max_sessions:
            unused = [session for session in own if session.n_uses == 0]
            if not unused:
                raise TooManySessions
            self.end(min(unused, key=lambda session: session.last_used_s))
        session = Session(owner)
        self._sessions[session.id] = session
        return session

    def find(self, session_id: str, owner: int) -> Session | None:
        """The session with this id; None if there is none or if it has another owner."""
        if time.monotonic() >= self._next_scan_s:
            self.end_idle()
        session = self._sessions.get(session_id)
        if session is None or session.owner != owner:
            return None
        if self._is_idle(session):
            self.end(session)
            return None
        session.last_used_s = time.monotonic()
        return session

    def end(self, session: Session) -> None:
        """Ends a session and cancels its requests."""
        if self._sessions.pop(session.id, None) is not None:
            session.writer.close()
            self._forget(session.connection)

    def end_idle(self) -> None:
        """Ends the sessions that were idle for too long."""
        self._next_scan_s = time.monotonic() + SCAN_S
        for session in [session for session in self._sessions.values() if self._is_idle(session)]:
            self.end(session)

    def _is_idle(self, session: Session) -> bool:
        return session.n_uses == 0 and session.last_used_s < time.monotonic() - self._idle_s

    def close_streams(self) -> None:
        """Ends all open streams: the server shuts down."""
        for session in list(self._sessions.values()):
            session.writer.close()
