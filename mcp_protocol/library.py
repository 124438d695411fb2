"""The methods about resources, prompts, completion and subscriptions: loaded with the first request for one of them."""

from __future__ import annotations

from collections.abc import Callable

from mcp_protocol import jsonrpc
from mcp_protocol.call import Answerer, Call
from mcp_protocol.catalogues import Catalogues, not_found
from mcp_protocol.connection import Exchange, Method
from mcp_protocol.jsonrpc import Json, ProtocolError, Request
from mcp_protocol.resources import ResourceNotFound
from mcp_protocol.subscriptions import META_SUBSCRIPTION, Subscriptions
from mcp_protocol.turn import Turn
from mcp_protocol.versions import LIST_CACHE, MODERN, Cache, Revision, finished

Enqueue = Callable[[Request, Exchange, str, Json, Answerer, Turn], None]
READ = "resources/read"
RESOURCES_CACHE = Cache(0, "private")
"""The list of resources names sessions: it changes at any time, and is nobody else's business."""


class Library:
    """Answers what a catalogue can answer.

    Arguments: the catalogues; our `serverInfo`; `enqueue`, which puts a request into the queue of calls.
    """

    def __init__(self, catalogues: Catalogues, server_info: Json, enqueue: Enqueue) -> None:
        self._catalogues = catalogues
        self._server_info = server_info
        self._enqueue = enqueue
        self.subscriptions = Subscriptions(catalogues)
        self._methods: dict[str, Method] = {
            "resources/list": self._answering(catalogues.resources, RESOURCES_CACHE),
            "resources/templates/list": self._answering(catalogues.templates, LIST_CACHE),
            READ: self._read,
            "prompts/list": self._answering(catalogues.prompts, LIST_CACHE),
            "prompts/get": self._answering(catalogues.prompt, None),
            "completion/complete": self._answering(catalogues.completion, None),
        }
        self._legacy_methods: dict[str, Method] = {
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
        }
        self._modern_methods: dict[str, Method] = {"subscriptions/listen": self._listen}

    def method(self, name: str, revision: Revision) -> Method | None:
        """The method of that name in that revision."""
        era = self._modern_methods if revision.modern else self._legacy_methods
        return self._methods.get(name) or era.get(name)

    def line(self, call: Call) -> bytes:
        """Reads a resource on a worker thread; see `Answerer`."""
        uri, kind = self._catalogues.kind(call.arguments, call.revision)
        contents = self._catalogues.read(uri, kind, call.revision)
        result = finished(contents, call.revision, self._server_info, kind.cache)
        return jsonrpc.encode(jsonrpc.result_message(call.request_id, result))

    def end_subscriptions(self) -> None:
        """Ends all streams in good order, which is when their requests are answered."""
        for request_id, outlet in self.subscriptions.end():
            result = finished({"_meta": {META_SUBSCRIPTION: request_id}}, Revision(MODERN[0]), self._server_info)
            outlet.answer(jsonrpc.encode(jsonrpc.result_message(request_id, result)))

    def _answering(self, answer: Callable[[Json], Json], cache: Cache | None) -> Method:
        return lambda request, exchange: finished(answer(request.params), exchange.revision, self._server_info, cache)

    def _read(self, request: Request, exchange: Exchange) -> Json | None:
        revision = exchange.revision
        uri, kind = self._catalogues.kind(request.params, revision)
        if kind.on_worker:
            try:
                turn = kind.turn(uri)
            except ResourceNotFound:
                raise not_found(uri, revision) from None
            self._enqueue(request, exchange, READ, {"uri": uri}, self, turn)
            return None
        return finished(self._catalogues.read(uri, kind, revision), revision, self._server_info, kind.cache)

    def _subscribe(self, request: Request, exchange: Exchange) -> Json:
        if not exchange.connection.initialized:
            text = "Invalid Request: send initialize first; before it nobody is told of changes"
            raise ProtocolError(jsonrpc.INVALID_REQUEST, text)
        uri, _ = self._catalogues.kind(request.params, exchange.revision)
        try:
            self.subscriptions.subscribe(uri, exchange.connection)
        except ResourceNotFound:
            raise not_found(uri, exchange.revision) from None
        return {}

    def _unsubscribe(self, request: Request, exchange: Exchange) -> Json:
        uri, _ = self._catalogues.kind(request.params, exchange.revision)
        self.subscriptions.unsubscribe(uri, exchange.connection)
        return {}

    def _listen(self, request: Request, exchange: Exchange) -> None:
        self.subscriptions.listen(request.id, request.params.get("notifications"), exchange)
