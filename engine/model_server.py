"""One server of the OpenAI API: which models it has, and the requests for their answers.

What an engine over one model of it and a provider of all its models have in common. Importing this module costs
milliseconds; httpx comes with the first question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, EngineUnavailable, InvalidGeneration, PromptTooLong
from engine.interface import Conversation
from engine.key_filter import KeyFilter
from engine.loop_thread import LoopThread
from engine.openai_requests import Endpoint, OpenAIRequests, max_answer_bytes
from engine.refused_fields import MOST_LESSONS, RefusedFields
from engine.remote_failures import Broken, Declined, NoListing, NotFound, RemoteServer
from engine.remote_generation import AT_ONCE, Asked, OnChunk
from engine.streamed_answer import StreamedAnswer
from http_client.outgoing import Outgoing

if TYPE_CHECKING:
    from engine.model_list import ServedModel
    from engine.openai_client import OpenAIClient

SILENCE_S = 600.0
"""How long a server may send nothing of an answer: a busy one has requests wait for minutes."""
ASK_TIMEOUT_S = 10.0
"""For questions that a server answers at once when it is well."""
PATIENCE_S = 2.0
"""For a list of models that a call can do without; what is told later holds for the next call."""
MOST_NAMES = 20
"""Of a server's models in an error: some have hundreds."""
VLLM = "vllm"

log = logging.getLogger("engine")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """The models that a server has, and vLLM's version if it is one; `models` is `None` where it does not tell.

    `problem` says why it does not, where it should.
    """

    models: tuple[ServedModel, ...] | None
    version: str | None = None
    problem: str | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(model.id for model in self.models or ())

    def model(self, name: str) -> ServedModel | None:
        """The model of that name."""
        return next((model for model in self.models or () if model.id == name), None)

    def is_vllm(self, name: str) -> bool:
        """Whether vLLM runs the model; also behind a router that leaves the owner out."""
        model = self.model(name)
        return model is not None and (model.owned_by == VLLM or (model.owned_by is None and self.version is not None))

    def endpoint(self, url: str, name: str) -> Endpoint:
        """What requests for a model need to know."""
        model = self.model(name)
        return Endpoint(url, name, self.is_vllm(name), model.context if model is not None else None)


class ModelServer:
    """The connections to one server. Its methods may be called from any thread, its coroutines run on the loop.

    Arguments: the server; the way to it; the loop; seconds without a piece of an answer until it is given up, and for a
    question; how many generations there may be at a time.
    """

    def __init__(
        self,
        server: RemoteServer,
        outgoing: Outgoing,
        loop: LoopThread,
        silence_s: float = SILENCE_S,
        ask_timeout_s: float = ASK_TIMEOUT_S,
        n_callers: int = 1,
    ) -> None:
        self.server = server
        self._outgoing = outgoing
        self._loop = loop
        self._refused = RefusedFields()
        self._silence_s = silence_s
        self._ask_timeout_s = ask_timeout_s
        self._max_connections = AT_ONCE + n_callers - 1  # a large batch never keeps the others waiting
        self._opened: OpenAIClient | None = None

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Starts a coroutine on the loop; raises `EngineUnavailable` after the end."""
        return self._loop.submit(coroutine)

    async def listing(self) -> Listing:
        """Asks for the models.

        Raises: `NoListing` where the server is there and should tell; other `EngineUnavailable` where it is not.
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

    def asked(
        self,
        requests: OpenAIRequests,
        conversation: Conversation,
        deadline_s: float | None,
        not_found: Callable[[EngineError], Coroutine[Any, Any, EngineError]],
        finish: Callable[[Body], Body] = lambda body: body,
    ) -> Asked:
        """The request for one answer, not sent yet.

        Arguments: who makes the request; the conversation; `time.monotonic()` beyond which a busy server is not asked
        again; what it means that the server does not find the model; the last touch to the request's body.
        Raises: `InvalidGeneration` for what the server could not be asked.
        """
        body = finish(requests.body(conversation))
        max_bytes = max_answer_bytes(conversation)
        answer = StreamedAnswer(conversation, requests.is_forced_here(conversation), KeyFilter(self.server.key))

        async def stream(on_chunk: OnChunk) -> None:
            try:
                try:
                    n_unreadable = await self._chat(body, max_bytes, deadline_s, on_chunk)
                except PromptTooLong as error:
                    if error.prompt_tokens is None or error.prompt_tokens >= error.max_model_len:
                        raise
                    # Some servers refuse what vLLM shortens: an answer that could be longer than the room left.
                    room = error.max_model_len - error.prompt_tokens
                    n_unreadable = await self._chat(requests.most_tokens(body, room), max_bytes, deadline_s, on_chunk)
            except NotFound as refusal:
                raise await not_found(refusal) from None
            if n_unreadable:
                answer.remarks.append(
                    f"Some of the answer's events could not be read ({n_unreadable}): it may have gaps."
                )
            if left_out := self._refused.left_out(body):
                answer.remarks.append(f"The server does not take {', '.join(left_out)}: left out of the request.")

        return Asked(stream, answer)

    async def _chat(self, body: Body, max_bytes: int, deadline_s: float | None, on_chunk: OnChunk) -> int:
        """Streams one answer, without what the server does not take; that is learned from its refusals. Returns how
        many events could not be read."""
        client = self._client()
        for lesson in range(MOST_LESSONS + 1):
            sent = self._refused.without(body)
            try:
                return await client.chat(sent, max_bytes, deadline_s, on_chunk)
            except (Broken, Declined, NotFound) as error:
                refusal = error.refusal
                if refusal is None or lesson == MOST_LESSONS or not self._refused.learn(body, sent, refusal):
                    raise
                log.info("learned from %s: %s", self.server.url, error)
        raise AssertionError("the last lesson returns or raises")

    async def gone(self, name: str, refusal: EngineError, hint: str) -> EngineError:
        """What it means that the server answered "not found" to a request for a model: it is none for chat, or not
        there any more."""
        try:
            models = (await self.listing()).models
        except EngineUnavailable:
            models = None
        if models is None or any(model.id == name for model in models):
            return EngineUnavailable(f"{refusal} Check that the model {name} is one for chat.")
        said = refusal.refusal.reason if isinstance(refusal, NotFound) and refusal.refusal is not None else ""
        told = f" It says: {said.rstrip('.')}." if said else ""
        return InvalidGeneration(self.no_such_model(name, [model.id for model in models], hint) + told)

    def no_such_model(self, name: str, ids: Iterable[str], hint: str) -> str:
        """That a model is not there, and which are."""
        names = [self.server.plain(id) for id in ids]
        listed = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES))
        return f"The server at {self.server.url} has no model {name[:100]!r}; it has {listed or 'none'}. {hint}"

    async def hang_up(self) -> None:
        """Closes all connections, which stops what the server still works on."""
        if self._opened is not None:
            await self._opened.close()

    def _client(self) -> OpenAIClient:
        """The connections to the server; made and used on the loop's thread."""
        if self._opened is None:
            from engine.openai_client import OpenAIClient

            self._opened = OpenAIClient(
                self.server, self._outgoing, self._max_connections, self._silence_s, self._ask_timeout_s
            )
        return self._opened
