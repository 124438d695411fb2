"""The methods for resources, prompts, completion and subscriptions; loaded with the first such request."""

from __future__ import annotations

from collections.abc import Callable

from mcp_protocol import jsonrpc
from mcp_protocol.calls.call import Call
from mcp_protocol.connection import Method, RequestContext
from mcp_protocol.jsonrpc import Json, ProtocolError, Request
from mcp_protocol.resources.registry import ResourceRegistry, not_found
from mcp_protocol.resources.resource import ResourceNotFound
from mcp_protocol.resources.subscriptions import META_SUBSCRIPTION, Subscriptions
from mcp_protocol.versions import LIST_CACHE, MODERN, Cache, Revision, finished

READ = "resources/read"
RESOURCES_CACHE = Cache(0, "private")
"""The list of resources contains sessions: it changes at any time and is private to one user."""


class ResourceMethods:
    """Handles these methods.

    Arguments:
        registry: resources and prompts.
        server_info: the `serverInfo` of results.
        enqueue: puts a request into the queue of calls; see `Server`.
    """

    def __init__(self, registry: ResourceRegistry, server_info: Json, enqueue: Callable[..., None]) -> None:
        self._registry = registry
        self._server_info = server_info
        self._enqueue = enqueue
        self.subscriptions = Subscriptions(registry)
        self._methods: dict[str, Method] = {
            "resources/list": self._returning(registry.resources, RESOURCES_CACHE),
            "resources/templates/list": self._returning(registry.templates, LIST_CACHE),
            READ: self._read,
            "prompts/list": self._returning(registry.prompts, LIST_CACHE),
            "prompts/get": self._returning(registry.prompt, None),
            "completion/complete": self._returning(registry.completion, None),
        }
        self._legacy_methods: dict[str, Method] = {
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
        }
        self._modern_methods: dict[str, Method] = {"subscriptions/listen": self._listen}

    def method(self, name: str, revision: Revision) -> Method | None:
        """The method with this name in this revision."""
        era = self._modern_methods if revision.modern else self._legacy_methods
        return self._methods.get(name) or era.get(name)

    def line(self, call: Call) -> bytes:
        """Reads a resource on a worker thread; see `RequestHandler`."""
        uri, kind = self._registry.kind(call.arguments, call.revision)
        contents = self._registry.read(uri, kind, call.revision)
        result = finished(contents, call.revision, self._server_info, kind.cache)
        return jsonrpc.encode(jsonrpc.result_message(call.request_id, result))

    def end_subscriptions(self) -> None:
        """Ends all streams and responds to their requests."""
        for request_id, writer in self.subscriptions.end():
            result = finished({"_meta": {META_SUBSCRIPTION: request_id}}, Revision(MODERN[0]), self._server_info)
            writer.respond(jsonrpc.encode(jsonrpc.result_message(request_id, result)))

    def _returning(self, result_of: Callable[[Json], Json], cache: Cache | None) -> Method:
        return lambda request, context: finished(result_of(request.params), context.revision, self._server_info, cache)

    def _read(self, request: Request, context: RequestContext) -> Json | None:
        revision = context.revision
        uri, kind = self._registry.kind(request.params, revision)
        if kind.on_worker:
            try:
                policy = kind.policy(uri)
            except ResourceNotFound:
                raise not_found(uri, revision) from None
            self._enqueue(request, context, READ, {"uri": uri}, policy, request_handler=self)
            return None
        return finished(self._registry.read(uri, kind, revision), revision, self._server_info, kind.cache)

    def _subscribe(self, request: Request, context: RequestContext) -> Json:
        if not context.connection.initialized:
            text = "Invalid Request: send initialize before resources/subscribe"
            raise ProtocolError(jsonrpc.INVALID_REQUEST, text)
        uri, _ = self._registry.kind(request.params, context.revision)
        try:
            self.subscriptions.subscribe(uri, context.connection)
        except ResourceNotFound:
            raise not_found(uri, context.revision) from None
        return {}

    def _unsubscribe(self, request: Request, context: RequestContext) -> Json:
        uri, _ = self._registry.kind(request.params, context.revision)
        self.subscriptions.unsubscribe(uri, context.connection)
        return {}

    def _listen(self, request: Request, context: RequestContext) -> None:
        self.subscriptions.listen(request.id, request.params.get("notifications"), context)
