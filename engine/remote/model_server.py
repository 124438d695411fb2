"""One server with the OpenAI API: its models, and requests to them. `RemoteEngine` and `Provider` share this code.

The import is cheap: httpx is imported with the first request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, EngineUnavailable, InvalidGeneration, PromptTooLong
from engine.interface import Conversation
from engine.remote.accumulator import StreamedCompletion
from engine.remote.failures import NoListing, NotFound, Refused, RemoteServer
from engine.remote.generation import MAX_IN_FLIGHT, OnChunk, PendingRequest
from engine.remote.refused_fields import MAX_ATTEMPTS, RefusedFields
from engine.remote.requests import Endpoint, OpenAIRequests, max_stream_bytes
from http_client.event_loop import EventLoopClosed, EventLoopThread, cancel_others
from http_client.model_list import ServedModel
from http_client.outgoing import Outgoing
from http_client.redaction import KeyFilter

if TYPE_CHECKING:
    from engine.remote.client import OpenAIClient

PATIENCE_S = 2.0
"""The wait for a list of models that a call does not need; a later response is used by the next call."""
MAX_NAMES = 20
"""Models named in an error: some servers have hundreds."""
VLLM = "vllm"

log = logging.getLogger("engine")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """The models of a server.

    Attributes:
        models: `None` where the server has no list.
        version: vLLM's version, `None` for another server.
        problem: why there is no list, where the server should have one.
    """

    models: tuple[ServedModel, ...] | None
    version: str | None = None
    problem: str | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the models."""
        return tuple(model.id for model in self.models or ())

    def model(self, name: str) -> ServedModel | None:
        """The model of that name."""
        return next((model for model in self.models or () if model.id == name), None)

    def is_vllm(self, name: str) -> bool:
        """Whether vLLM runs the model, possibly behind a router that leaves the owner out."""
        model = self.model(name)
        return model is not None and (model.owned_by == VLLM or (model.owned_by is None and self.version is not None))

    def endpoint(self, url: str, name: str) -> Endpoint:
        """The endpoint that requests for a model go to."""
        model = self.model(name)
        return Endpoint(url, name, self.is_vllm(name), model.context_length if model is not None else None)


class ModelServer:
    """The connections to one server. Any thread may call its methods; its coroutines run on the event loop.

    Arguments:
        server: its address and key.
        outgoing: makes the HTTP client.
        loop: the event loop.
        n_callers: how many generations may run at once.
    """

    def __init__(self, server: RemoteServer, outgoing: Outgoing, loop: EventLoopThread, n_callers: int = 1) -> None:
        self.server = server
        self._outgoing = outgoing
        self._loop = loop
        self._refused = RefusedFields()
        self._max_connections = MAX_IN_FLIGHT + n_callers - 1  # a large batch leaves one for every other caller
        self._opened: OpenAIClient | None = None

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Starts a coroutine on the event loop; raises `EngineUnavailable` after `close`."""
        try:
            return self._loop.submit(coroutine)
        except EventLoopClosed:
            raise EngineUnavailable("The server is shutting down.") from None

    async def listing(self) -> Listing:
        """Asks for the models.

        Raises: `NoListing` where the server responds without a list; another `EngineUnavailable` where it does not
        respond.
        """
        client = self._client()
        try:
            models = tuple(await client.models())
        except NoListing as error:
            if error.is_absent:
                return Listing(None)
            raise
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise NoListing(str(error)) from None
        foreign = any(model.owned_by not in (VLLM, None) for model in models)
        return Listing(models, None if foreign else await client.version())

    def prepare(
        self,
        requests: OpenAIRequests,
        conversation: Conversation,
        deadline_s: float | None,
        not_found: Callable[[EngineError], Coroutine[Any, Any, EngineError]],
        finish: Callable[[Body], Body] = lambda body: body,
    ) -> PendingRequest:
        """The request for one completion, not sent yet.

        Arguments:
            requests: builds the body.
            conversation: what to send.
            deadline_s: `time.monotonic()` after which a busy server is not asked again.
            not_found: makes the error for HTTP 404.
            finish: changes the body at the end.

        Raises: `InvalidGeneration` where the server cannot do what the conversation asks for.
        """
        body = finish(requests.body(conversation))
        max_bytes = max_stream_bytes(conversation)
        completion = StreamedCompletion(conversation, requests.is_forced_here(conversation), KeyFilter(self.server.key))

        async def stream(on_chunk: OnChunk) -> None:
            try:
                try:
                    n_unreadable = await self._chat(body, max_bytes, deadline_s, on_chunk)
                except PromptTooLong as error:
                    if error.prompt_tokens is None or error.prompt_tokens >= error.max_model_len:
                        raise
                    # Some servers refuse a max_tokens that vLLM shortens to the room left in the context.
                    room = error.max_model_len - error.prompt_tokens
                    n_unreadable = await self._chat(requests.max_tokens(body, room), max_bytes, deadline_s, on_chunk)
            except NotFound as refusal:
                raise await not_found(refusal) from None
            if n_unreadable:
                completion.remarks.append(
                    f"Some events of the response could not be read ({n_unreadable}): the text may have gaps."
                )
            if left_out := self._refused.left_out(body):
                completion.remarks.append(f"The server does not accept {', '.join(left_out)}: left out of the request.")

        return PendingRequest(stream, completion)

    async def _chat(self, body: Body, max_bytes: int, deadline_s: float | None, on_chunk: OnChunk) -> int:
        """Streams one completion without the fields that the server does not accept, which its errors name. Returns how
        many events could not be read."""
        client = self._client()
        for attempt in range(MAX_ATTEMPTS + 1):
            sent = self._refused.without(body)
            try:
                return await client.chat(sent, max_bytes, deadline_s, on_chunk)
            except Refused as error:
                refusal = error.refusal
                if refusal is None or attempt == MAX_ATTEMPTS or not self._refused.learn(body, sent, refusal):
                    raise
                log.info("%s does not accept a field of the request: %s", self.server.url, error)
        raise AssertionError("the last attempt returns or raises")

    async def not_found(self, name: str, refusal: EngineError, hint: str) -> EngineError:
        """The error for HTTP 404 to a request: the model does not exist (any more), or it is not a chat model."""
        try:
            models = (await self.listing()).models
        except EngineUnavailable:
            models = None
        if models is None or any(model.id == name for model in models):
            return EngineUnavailable(f"{refusal} Check that {name} is a chat model.")
        reason = refusal.refusal.reason if isinstance(refusal, Refused) and refusal.refusal is not None else ""
        quoted = f" It says: {reason.rstrip('.')}." if reason else ""
        return InvalidGeneration(self.no_such_model(name, [model.id for model in models], hint) + quoted)

    def no_such_model(self, name: str, ids: Iterable[str], hint: str) -> str:
        """The message for an unknown model, with the names of the known ones."""
        names = [self.server.plain(id) for id in ids]
        listed = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" * (len(names) > MAX_NAMES))
        return f"The server at {self.server.url} has no model {name[:100]!r}; it has {listed or 'none'}. {hint}"

    async def close(self) -> None:
        """Closes all connections."""
        if self._opened is not None:
            await self._opened.close()

    def _client(self) -> OpenAIClient:
        """The HTTP client; made and used on the event loop."""
        if self._opened is None:
            from engine.remote.client import OpenAIClient

            self._opened = OpenAIClient(self.server, self._outgoing, self._max_connections)
        return self._opened


async def hang_up(servers: Iterable[ModelServer]) -> None:
    """Cancels all requests on the event loop and closes the connections, which also ends them at the servers."""
    await cancel_others()
    for server in servers:
        await server.close()
