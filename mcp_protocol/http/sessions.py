"""The clients of the legacy revisions: each has a connection of its own until it ends or falls silent."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from mcp_protocol.connection import Connection, Outlet
from mcp_protocol.http.streams import MAX_BACKLOG, Stream

SCAN_S = 1.0
"""Seconds between two looks for silent sessions, so that a request costs the same however many there are."""


class TooManySessions(Exception):
    """No session can be begun: all that its owner may have are in use."""


class SessionOutlet(Outlet):
    """What is said to a client without a request: it goes into the stream that the client has opened for that.

    While none is open the last messages are kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._backlog: deque[bytes] = deque(maxlen=MAX_BACKLOG)

    def write(self, line: bytes) -> None:
        """Sends or keeps one message."""
        with self._lock:
            if self._stream is None:
                self._backlog.append(line)
            else:
                self._stream.write(line)

    def answer(self, line: bytes) -> None:
        """Sends an answer; where the stream of the older transport is gone, nobody waits for it."""
        with self._lock:
            if self._stream is not None:
                self._stream.answer(line)

    def open(self, stream: Stream) -> None:
        """Sends to this stream from now on; one that was open before ends, since its client may be long gone."""
        with self._lock:
            if self._stream is not None:
                self._stream.close()
            self._stream = stream
            for line in self._backlog:
                stream.write(line)
            self._backlog.clear()

    def close(self, stream: Stream | None = None) -> None:
        """Ends this stream, or whichever is open."""
        with self._lock:
            if self._stream is not None and stream in (None, self._stream):
                self._stream.close()
                self._stream = None


class Session:
    """One client; `owner` is the number of its token. It is in use while requests or streams of it are open."""

    def __init__(self, owner: int) -> None:
        self.id = secrets.token_urlsafe(32)
        self.owner = owner
        self.outlet = SessionOutlet()
        self.connection = Connection(self.outlet, owner)
        self.last_used_s = time.monotonic()
        self.n_uses = 0

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the session from being forgotten for as long as something of it goes on."""
        self.n_uses += 1
        try:
            yield
        finally:
            self.n_uses -= 1
            self.last_used_s = time.monotonic()


class Sessions:
    """All sessions of one transport; used on the event loop's thread alone.

    Arguments: how many each owner may have; how long one may be silent; `forget`, called with the connection of a
    session that ends.
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
        """A new session; the one of the same owner that was silent longest makes room for it where there are too many.

        Raises: `TooManySessions`.
        """
        self.end_silent()
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
        """The session of that id, for whom it belongs to; None as well where it is somebody else's."""
        if time.monotonic() >= self._next_scan_s:
            self.end_silent()
        session = self._sessions.get(session_id)
        if session is None or session.owner != owner:
            return None
        if self._is_silent(session):
            self.end(session)
            return None
        session.last_used_s = time.monotonic()
        return session

    def end(self, session: Session) -> None:
        """Ends a session and cancels what it waits for."""
        if self._sessions.pop(session.id, None) is not None:
            session.outlet.close()
            self._forget(session.connection)

    def end_silent(self) -> None:
        """Ends the sessions that were silent for too long."""
        self._next_scan_s = time.monotonic() + SCAN_S
        for session in [session for session in self._sessions.values() if self._is_silent(session)]:
            self.end(session)

    def _is_silent(self, session: Session) -> bool:
        return session.n_uses == 0 and session.last_used_s < time.monotonic() - self._idle_s

    def close_streams(self) -> None:
        """Ends all open streams: the server ends."""
        for session in list(self._sessions.values()):
            session.outlet.close()
