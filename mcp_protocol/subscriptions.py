"""Who wants to be told of what: legacy `resources/subscribe`, and modern streams of `subscriptions/listen`.

Nobody is told anything unasked: some hosts take every line for the answer to their last request. Changes are found by
comparing versions whenever the worker has done something, so nothing that changes needs to know who listens. Calls pay
for that look only where it is cheap; after dear ones the next are had in the background, with a rest between them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from mcp_protocol.catalogues import Catalogues
from mcp_protocol.connection import Connection, Exchange, Outlet
from mcp_protocol.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, Json, ProtocolError, notification_message
from mcp_protocol.log import log_failure
from mcp_protocol.resources import ResourceNotFound
from mcp_protocol.stdio import ReaderGone

MAX_SUBSCRIPTIONS = 1_000
"""Resources that are watched for all clients of one owner together."""
MAX_LISTENS = 100
"""Streams that all clients of one owner may have open."""
FEW = 16
"""Resources that an ordinary client watches: each call looks at so few, unless that is very dear."""
CHEAP_CPU_S, CHEAP_CPU_OF_FEW_S = 0.0005, 0.1
"""What a look may cost the call before it, in the processor's time: at many resources, and at a few. The first looks at
a model that loads may have modules to load, and share the interpreter with it."""
REST = 19
"""How many times as long as the look the rest is: looks then take a twentieth of the time."""
MAX_REST_S = 10.0
SOON_S = 0.01
META_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

_UPDATED = "notifications/resources/updated"
_LIST_CHANGED = "notifications/resources/list_changed"
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"

_THE_LIST = object()
"""Stands for the list of resources where a URI stands for a resource."""


class _Listen(msgspec.Struct, frozen=True):
    """An open stream: the id of its request, who opened it, where it goes, and what it asked for."""

    request_id: Any
    connection: Connection
    outlet: Outlet
    watched: tuple[Any, ...]

    @property
    def key(self) -> Any:
        return _listen_key(self.request_id, self.connection)

    def meta(self) -> Json:
        return {META_SUBSCRIPTION: self.request_id}


class Subscriptions:
    """The subscriptions of this process; any thread may call any method.

    Messages go out while the lock is held, so none can follow the end of its subscription.
    """

    def __init__(self, catalogues: Catalogues) -> None:
        self._catalogues = catalogues
        self._lock = threading.Lock()
        self._legacy: dict[Connection, set[str]] = {}
        self._listens: dict[Any, _Listen] = {}
        self._seen: dict[Any, object] = {}
        self._look_lock = threading.Lock()
        self._was_dear = self._is_dear = False
        self._rest_s = SOON_S
        self._later: threading.Timer | None = None

    def subscribe(self, uri: str, connection: Connection) -> None:
        """Tells a legacy client of changes of one resource, from now on.

        Raises: `ResourceNotFound`; `ProtocolError` when there are too many.
        """
        version = self._version(uri)
        with self._lock:
            uris = self._legacy.setdefault(connection, set())
            if uri not in uris and self._room(connection.owner) == 0:
                text = f"Invalid params: at most {MAX_SUBSCRIPTIONS} subscriptions, all clients of a token together"
                raise ProtocolError(INVALID_PARAMS, text)
            uris.add(uri)
            self._seen.setdefault(uri, version)

    def unsubscribe(self, uri: str, connection: Connection) -> None:
        """No longer tells a legacy client of that resource."""
        with self._lock:
            self._legacy.get(connection, set()).discard(uri)
            self._forget_unwatched()

    def forget_legacy(self, connection: Connection) -> None:
        """Ends what a legacy client subscribed to: another session begins."""
        with self._lock:
            self._legacy.pop(connection, None)
            self._forget_unwatched()

    def listen(self, request_id: Any, wanted: Any, exchange: Exchange) -> None:
        """Opens a stream and says which of the wanted notifications it will carry; the rest is left out.

        Raises: `ProtocolError`.
        """
        uris = _wanted_uris(wanted)
        with self._lock:
            uris = uris[: self._room(exchange.connection.owner)]
        watched: dict[Any, object] = {uri: version for uri in uris for version in self._versions(uri)}
        honoured: Json = {"resourceSubscriptions": list(watched)} if uris else {}
        if wanted.get("resourcesListChanged") is True:
            honoured["resourcesListChanged"] = True
            watched[_THE_LIST] = self._version(_THE_LIST)
        with self._lock:
            listen = self._opened(_Listen(request_id, exchange.connection, exchange.outlet, tuple(watched)))
            for key, version in watched.items():
                self._seen.setdefault(key, version)
            params = {"_meta": listen.meta(), "notifications": honoured}
            listen.outlet.send(notification_message(_ACKNOWLEDGED, params))

    def cancel(self, request_id: Any, connection: Connection) -> None:
        """Ends a client's stream with that id; an unknown id is passed over.

        What has changed before is told first, unless looking is dear: a client that ends its stream when it has the
        answer to its call may be faster than the look after that call.
        """
        if isinstance(request_id, list | dict):
            return
        if _listen_key(request_id, connection) in self._listens and not self._is_dear:
            with self._look_lock:
                self._look_now()
        with self._lock:
            listen = self._listens.pop(_listen_key(request_id, connection), None)
            if listen is not None:
                self._forget_unwatched()
                listen.outlet.end()

    def forget(self, connection: Connection) -> None:
        """Ends all that a client, which is gone, was told of."""
        with self._lock:
            self._legacy.pop(connection, None)
            for listen in [listen for listen in self._listens.values() if listen.connection is connection]:
                del self._listens[listen.key]
                listen.outlet.end()
            self._forget_unwatched()

    def end(self) -> list[tuple[Any, Outlet]]:
        """Ends all streams; returns the ids of their requests, which are still to be answered, and where to."""
        with self._lock:
            open_listens, self._listens = list(self._listens.values()), {}
            self._legacy.clear()
            self._seen.clear()
        return [(listen.request_id, listen.outlet) for listen in open_listens]

    def look(self) -> None:
        """Looks for changes and tells those who asked for them: now, or soon and beside the calls where it is dear."""
        if not self._seen:
            return
        if self._is_dear or not self._look_lock.acquire(blocking=False):
            self._look_later()
            return
        try:
            self._look_now()
        finally:
            self._look_lock.release()

    def _look_now(self) -> None:
        since_s, cpu_since_s = time.monotonic(), time.thread_time()
        with self._lock:
            keys = list(self._seen)
        self._tell({key: version for key in keys for version in self._versions(key)})
        took_s, cpu_s = time.monotonic() - since_s, time.thread_time() - cpu_since_s
        was_dear, self._was_dear = self._was_dear, cpu_s > (CHEAP_CPU_OF_FEW_S if len(keys) <= FEW else CHEAP_CPU_S)
        self._is_dear = was_dear and self._was_dear
        self._rest_s = min(REST * took_s, MAX_REST_S) if self._is_dear else SOON_S

    def _tell(self, now: dict[Any, object]) -> None:
        with self._lock:
            changed = {key for key, version in now.items() if key in self._seen and version != self._seen[key]}
            self._seen |= {key: now[key] for key in changed}
            if not changed:
                return
            for connection, uris in self._legacy.items():
                for uri in sorted(uris & changed):
                    connection.outlet.send(notification_message(_UPDATED, {"uri": uri}))
            for listen in self._listens.values():
                for key in listen.watched:
                    if key in changed:
                        listen.outlet.send(_message(key, listen))

    def _look_later(self) -> None:
        with self._lock:
            if self._later is None:
                self._later = threading.Timer(self._rest_s, self._look_beside)
                self._later.daemon = True
                self._later.start()

    def _look_beside(self) -> None:
        with self._lock:
            self._later = None
        with self._look_lock, contextlib.suppress(ReaderGone):  # the main loop sees that by itself
            self._look_now()

    def _room(self, owner: int) -> int:
        """How many resources more may be watched for an owner."""
        n_legacy = sum(len(uris) for connection, uris in self._legacy.items() if connection.owner == owner)
        n_listens = sum(len(listen.watched) for listen in self._listens.values() if listen.connection.owner == owner)
        return max(0, MAX_SUBSCRIPTIONS - n_legacy - n_listens)

    def _opened(self, listen: _Listen) -> _Listen:
        if listen.request_id is None or listen.key in self._listens:
            text = "Invalid Request: subscriptions/listen needs an id of its own"
            raise ProtocolError(INVALID_REQUEST, text)
        n_own = sum(other.connection.owner == listen.connection.owner for other in self._listens.values())
        if n_own >= MAX_LISTENS:
            text = f"Invalid params: at most {MAX_LISTENS} streams, all clients of a token together; cancel one"
            raise ProtocolError(INVALID_PARAMS, text)
        self._listens[listen.key] = listen
        return listen

    def _version(self, key: Any) -> object:
        return self._catalogues.list_version() if key is _THE_LIST else self._catalogues.version(key)

    def _versions(self, key: Any) -> Iterable[object]:
        """The version of one resource; none of a URI that can never name one, and of what fails."""
        try:
            return [self._version(key)]
        except ResourceNotFound:
            return []
        except Exception:
            log_failure("looking for changes")
            return []

    def _forget_unwatched(self) -> None:
        watched = set().union(*self._legacy.values(), *(listen.watched for listen in self._listens.values()))
        self._seen = {key: version for key, version in self._seen.items() if key in watched}


def _listen_key(request_id: Any, connection: Connection) -> Any:
    """Ids are compared with their type: 1 and "1" are two streams."""
    return connection, type(request_id), request_id


def _wanted_uris(wanted: Any) -> list[str]:
    uris = wanted.get("resourceSubscriptions", []) if isinstance(wanted, dict) else None
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        text = "Invalid params: notifications must be an object, its resourceSubscriptions a list of URIs"
        raise ProtocolError(INVALID_PARAMS, text)
    return list(dict.fromkeys(uris))[:MAX_SUBSCRIPTIONS]


def _message(key: Any, listen: _Listen) -> Json:
    if key is _THE_LIST:
        return notification_message(_LIST_CHANGED, {"_meta": listen.meta()})
    return notification_message(_UPDATED, {"_meta": listen.meta(), "uri": key})
