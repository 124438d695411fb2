"""Subscriptions: legacy `resources/subscribe`, and modern streams of `subscriptions/listen`.

Clients get only notifications that they subscribed to: some take every line for the response to their last request.
Changes are detected by comparing versions after each call, so the code that changes a resource does not know its
subscribers. Cheap checks run in the worker; expensive ones run in the background, with pauses.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from mcp_protocol.connection import Connection, MessageWriter, RequestContext
from mcp_protocol.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, Json, ProtocolError, notification_message
from mcp_protocol.log import log_failure
from mcp_protocol.resources.registry import ResourceRegistry
from mcp_protocol.resources.resource import ResourceNotFound
from mcp_protocol.stdio import ReaderGone

MAX_SUBSCRIPTIONS = 1_000
"""Watched resources per owner."""
MAX_LISTENS = 100
"""Open streams per owner."""
FEW = 16
"""So many watched resources are checked after each call, unless that is very expensive."""
CHEAP_CPU_S, CHEAP_CPU_OF_FEW_S = 0.0005, 0.1
"""CPU time of a cheap check: for many resources, and for a few, where the first check may import modules."""
PAUSE_FACTOR = 19
"""Length of a pause relative to the check: checks then take a twentieth of the time."""
MAX_PAUSE_S = 10.0
MIN_PAUSE_S = 0.01
META_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

_UPDATED = "notifications/resources/updated"
_LIST_CHANGED = "notifications/resources/list_changed"
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"

_LIST = object()
"""Stands for the list of resources, like a URI for a resource."""


class _Listen(msgspec.Struct, frozen=True):
    """An open stream of `subscriptions/listen`."""

    request_id: Any
    connection: Connection
    writer: MessageWriter
    watched: tuple[Any, ...]

    @property
    def key(self) -> Any:
        return _listen_key(self.request_id, self.connection)

    def meta(self) -> Json:
        return {META_SUBSCRIPTION: self.request_id}


class Subscriptions:
    """All subscriptions; any thread may call any method.

    Messages are sent while the lock is held, so that none follows the end of its subscription.
    """

    def __init__(self, registry: ResourceRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._legacy: dict[Connection, set[str]] = {}
        self._listens: dict[Any, _Listen] = {}
        self._versions_sent: dict[Any, object] = {}
        self._check_lock = threading.Lock()
        self._was_expensive = self._is_expensive = False
        self._pause_s = MIN_PAUSE_S
        self._timer: threading.Timer | None = None

    def subscribe(self, uri: str, connection: Connection) -> None:
        """Subscribes a legacy client to one resource.

        Raises: `ResourceNotFound`; `ProtocolError` when there are too many.
        """
        version = self._version(uri)
        with self._lock:
            uris = self._legacy.setdefault(connection, set())
            if uri not in uris and self._room(connection.owner) == 0:
                text = f"Invalid params: at most {MAX_SUBSCRIPTIONS} subscriptions for all clients of a token"
                raise ProtocolError(INVALID_PARAMS, text)
            uris.add(uri)
            self._versions_sent.setdefault(uri, version)

    def unsubscribe(self, uri: str, connection: Connection) -> None:
        """Unsubscribes a legacy client from one resource."""
        with self._lock:
            self._legacy.get(connection, set()).discard(uri)
            self._forget_unwatched()

    def forget_legacy(self, connection: Connection) -> None:
        """Ends the subscriptions of a legacy client that initializes again."""
        with self._lock:
            self._legacy.pop(connection, None)
            self._forget_unwatched()

    def listen(self, request_id: Any, wanted: Any, context: RequestContext) -> None:
        """Opens a stream and acknowledges which of the requested notifications it will carry.

        Raises: `ProtocolError`.
        """
        uris = _wanted_uris(wanted)
        with self._lock:
            uris = uris[: self._room(context.connection.owner)]
        watched: dict[Any, object] = {uri: version for uri in uris for version in self._versions(uri)}
        honoured: Json = {"resourceSubscriptions": list(watched)} if uris else {}
        if wanted.get("resourcesListChanged") is True:
            honoured["resourcesListChanged"] = True
            watched[_LIST] = self._version(_LIST)
        with self._lock:
            listen = self._opened(_Listen(request_id, context.connection, context.writer, tuple(watched)))
            for key, version in watched.items():
                self._versions_sent.setdefault(key, version)
            params = {"_meta": listen.meta(), "notifications": honoured}
            listen.writer.send(notification_message(_ACKNOWLEDGED, params))

    def cancel(self, request_id: Any, connection: Connection) -> None:
        """Ends the client's stream with this id; an unknown id is ignored.

        Earlier changes are sent first, unless the check is expensive: a client may end its stream upon the response to
        its call, before the check after that call.
        """
        if isinstance(request_id, list | dict):
            return
        if _listen_key(request_id, connection) in self._listens and not self._is_expensive:
            with self._check_lock:
                self._check_now()
        with self._lock:
            listen = self._listens.pop(_listen_key(request_id, connection), None)
            if listen is not None:
                self._forget_unwatched()
                listen.writer.skip_response()

    def forget(self, connection: Connection) -> None:
        """Ends all subscriptions of a client that has disconnected."""
        with self._lock:
            self._legacy.pop(connection, None)
            for listen in [listen for listen in self._listens.values() if listen.connection is connection]:
                del self._listens[listen.key]
                listen.writer.skip_response()
            self._forget_unwatched()

    def end(self) -> list[tuple[Any, MessageWriter]]:
        """Ends all streams; returns the ids and writers of their requests, which still need a response."""
        with self._lock:
            open_listens, self._listens = list(self._listens.values()), {}
            self._legacy.clear()
            self._versions_sent.clear()
        return [(listen.request_id, listen.writer) for listen in open_listens]

    def notify_changes(self) -> None:
        """Sends notifications of changes: now, or in the background if the check is expensive."""
        if not self._versions_sent:
            return
        if self._is_expensive or not self._check_lock.acquire(blocking=False):
            self._check_later()
            return
        try:
            self._check_now()
        finally:
            self._check_lock.release()

    def _check_now(self) -> None:
        since_s, cpu_since_s = time.monotonic(), time.thread_time()
        with self._lock:
            keys = list(self._versions_sent)
        self._notify({key: version for key in keys for version in self._versions(key)})
        took_s, cpu_s = time.monotonic() - since_s, time.thread_time() - cpu_since_s
        was_expensive, self._was_expensive = (
            self._was_expensive,
            cpu_s > (CHEAP_CPU_OF_FEW_S if len(keys) <= FEW else CHEAP_CPU_S),
        )
        self._is_expensive = was_expensive and self._was_expensive
        self._pause_s = min(PAUSE_FACTOR * took_s, MAX_PAUSE_S) if self._is_expensive else MIN_PAUSE_S

    def _notify(self, now: dict[Any, object]) -> None:
        with self._lock:
            changed = {
                key
                for key, version in now.items()
                if key in self._versions_sent and version != self._versions_sent[key]
            }
            self._versions_sent |= {key: now[key] for key in changed}
            if not changed:
                return
            for connection, uris in self._legacy.items():
                for uri in sorted(uris & changed):
                    connection.writer.send(notification_message(_UPDATED, {"uri": uri}))
            for listen in self._listens.values():
                for key in listen.watched:
                    if key in changed:
                        listen.writer.send(_message(key, listen))

    def _check_later(self) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(self._pause_s, self._check_in_background)
                self._timer.daemon = True
                self._timer.start()

    def _check_in_background(self) -> None:
        with self._lock:
            self._timer = None
        with self._check_lock, contextlib.suppress(ReaderGone):  # the main loop notices that too
            self._check_now()

    def _room(self, owner: int) -> int:
        """How many more resources may be watched for an owner."""
        n_legacy = sum(len(uris) for connection, uris in self._legacy.items() if connection.owner == owner)
        n_listens = sum(len(listen.watched) for listen in self._listens.values() if listen.connection.owner == owner)
        return max(0, MAX_SUBSCRIPTIONS - n_legacy - n_listens)

    def _opened(self, listen: _Listen) -> _Listen:
        if listen.request_id is None or listen.key in self._listens:
            text = "Invalid Request: subscriptions/listen needs a unique id"
            raise ProtocolError(INVALID_REQUEST, text)
        n_own = sum(other.connection.owner == listen.connection.owner for other in self._listens.values())
        if n_own >= MAX_LISTENS:
            text = f"Invalid params: at most {MAX_LISTENS} streams for all clients of a token; cancel one"
            raise ProtocolError(INVALID_PARAMS, text)
        self._listens[listen.key] = listen
        return listen

    def _version(self, key: Any) -> object:
        return self._registry.list_version() if key is _LIST else self._registry.version(key)

    def _versions(self, key: Any) -> Iterable[object]:
        """The version of one resource; empty for an unknown URI or after an error."""
        try:
            return [self._version(key)]
        except ResourceNotFound:
            return []
        except Exception:
            log_failure("checking for changes")
            return []

    def _forget_unwatched(self) -> None:
        watched = set().union(*self._legacy.values(), *(listen.watched for listen in self._listens.values()))
        self._versions_sent = {key: version for key, version in self._versions_sent.items() if key in watched}


def _listen_key(request_id: Any, connection: Connection) -> Any:
    """Ids are compared with their type: 1 and "1" differ."""
    return connection, type(request_id), request_id


def _wanted_uris(wanted: Any) -> list[str]:
    uris = wanted.get("resourceSubscriptions", []) if isinstance(wanted, dict) else None
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        text = "Invalid params: notifications must be an object, its resourceSubscriptions a list of URIs"
        raise ProtocolError(INVALID_PARAMS, text)
    return list(dict.fromkeys(uris))[:MAX_SUBSCRIPTIONS]


def _message(key: Any, listen: _Listen) -> Json:
    if key is _LIST:
        return notification_message(_LIST_CHANGED, {"_meta": listen.meta()})
    return notification_message(_UPDATED, {"_meta": listen.meta(), "uri": key})
