"""A model on another machine, or in another process: vLLM's own server or any other of the OpenAI API.

The whole interface of an engine over `/v1/chat/completions`. Nothing is loaded here; what counts as a load is that the
server is asked which models it has. Importing this module costs milliseconds; httpx comes with the first question.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from engine.arguments import is_bundled
from engine.errors import EngineError, EngineUnavailable, OffloadUnsupported
from engine.interface import Completion, Control, Conversation, EngineState, EngineStatus, OnPhase
from engine.lifecycle import Lifecycle
from engine.loading import SharedLoad
from engine.loop_thread import LoopThread
from engine.model_server import PATIENCE_S, SILENCE_S, Listing, ModelServer
from engine.openai_requests import Endpoint, OpenAIRequests
from engine.remote_failures import NoListing, server_of
from engine.remote_generation import Asked, RemoteGeneration
from engine.remote_json import checked_json
from http_client.outgoing import Outgoing
from settings import EngineSettings

log = logging.getLogger("engine")

DEVICE = "remote"
MOST_LISTED = 500
OTHER_MODEL = (
    "Set VLLM_MODEL_NAME to one of them, or leave it empty for the first. If the server takes that name though it does "
    "not list it, set VLLM_UNLISTED_MODELS=1."
)
OTHER_LORA = (
    "That is the name in lora, which must be one of the adapters that the server was started with (--lora-modules): "
    "give one of those, or leave lora out."
)


class RemoteEngine:
    """An engine of `engine.interface` over a server's OpenAI API.

    Any thread may call any method; generations go on side by side.

    Arguments:
        settings: the server's address and key, and the model's name there.
        outgoing: the way to it.
        silence_s: seconds without a piece of an answer until it is given up.
        n_callers: how many generations there may be at a time.
    """

    def __init__(
        self,
        settings: EngineSettings,
        outgoing: Outgoing | None = None,
        silence_s: float = SILENCE_S,
        n_callers: int = 1,
    ) -> None:
        server = server_of(settings.base_url or "", settings.remote_api_key)
        self._settings = settings
        self._name = None if is_bundled(settings) else settings.model_name
        self._lifecycle = Lifecycle(
            EngineStatus(
                EngineState.UNLOADED,
                self._name or f"the first model of {server.url}",
                device=DEVICE,
                can_offload=False,
                server_url=server.url,
            )
        )
        self._loop = LoopThread("remote engine")
        self._models = ModelServer(server, outgoing or Outgoing(), self._loop, silence_s, n_callers=n_callers)
        self._requests: OpenAIRequests | None = None
        self._shared_load = SharedLoad()
        self._moving = threading.Lock()
        """Held while the state and what goes with it change together."""

    def status(self) -> EngineStatus:
        """What is known now; asks nobody; safe from any thread.

        There is no last use: nothing of it is in this machine's memory, so no idle time is counted.
        """
        return dataclasses.replace(self._lifecycle.status, last_used_s=None)

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Finds out which models the server has; see `Engine.load`."""
        return 0.0 if self._requests is not None else self._shared_load.run(self._ask_for_models, on_phase)

    def vet(self, schema: dict[str, Any], control: Control) -> None:
        """Takes every schema: the server that has to follow it refuses what it cannot."""

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations side by side; see `Engine.generate`."""
        conversations = iter(conversations)
        first = next(conversations, None)
        if first is None:
            return []
        while (requests := self._requests) is None:
            if self.load(control.on_phase) and control.on_ready is not None:
                control.on_ready()

        def prepare(conversation: Conversation) -> Asked:
            return self._asked(conversation, requests, control.deadline_s)

        def each() -> Iterable[Conversation]:
            yield first
            yield from conversations

        generation = RemoteGeneration(prepare, self._models.submit, each(), control)
        try:
            completions = generation.run()
        finally:
            if generation.unavailable is not None and not self._loop.is_closed:
                self._forget(requests, EngineState.FAILED, str(generation.unavailable))
        return checked_json(generation.conversations, completions)

    def offload(self) -> None:
        """Refuses: there is nothing here to move."""
        raise OffloadUnsupported(
            f"Offloading is not possible: the model runs on the server at {self._models.server.url}, and nothing of it "
            "is in this machine's memory."
        )

    def release(self) -> None:
        """Forgets what is known of the server, which keeps its model; the next call asks again."""
        with self._moving:
            if self._lifecycle.state in (EngineState.READY, EngineState.FAILED):
                self._requests = None
                self._lifecycle.move(EngineState.UNLOADED)

    def process_ids(self) -> list[int]:
        """Only this process."""
        return [os.getpid()]

    def close(self) -> None:
        """Closes all connections, which stops what the server still works on."""
        self._loop.close(self._models.hang_up)

    def _ask_for_models(self, on_phase: OnPhase) -> None:
        with self._moving:
            if self._requests is not None:
                return
            self._lifecycle.move(EngineState.LOADING)
        try:
            on_phase("asking the model server")
            late, endpoint, facts = self._found()
        except BaseException as error:
            told = str(error) if isinstance(error, EngineError) else type(error).__name__
            with self._moving:
                self._lifecycle.move(EngineState.FAILED, error=told)
            raise
        with self._moving:
            self._lifecycle.move(EngineState.READY, **facts)
            self._requests = requests = OpenAIRequests(endpoint, self._settings.max_images_per_prompt)
        if late is not None:
            late.add_done_callback(lambda told: self._learn(requests, endpoint.model, told))

    def _found(self) -> tuple[Future[Listing] | None, Endpoint, dict[str, Any]]:
        """The server's model to use, and what the status tells of it; first, the question for its models where that
        was not waited for."""
        url, name = self._models.server.url, self._name
        asking: Future[Listing] = self._models.submit(self._models.listing())
        late = None
        try:
            listing = asking.result(PATIENCE_S if name is not None else None)
        except TimeoutError:
            log.warning("%s is slow to tell its models; %s is asked meanwhile", url, name)
            late, listing = asking, Listing(None)
        except NoListing as error:
            if name is None:
                raise
            log.warning("the models of %s are not known: %s", url, error)
            listing = Listing(None)
        if name is None:
            name = self._first(listing)
        if listing.ids and listing.model(name) is None and not self._settings.unlisted_models:
            raise EngineUnavailable(self._models.no_such_model(name, listing.ids, OTHER_MODEL))
        endpoint = listing.endpoint(url, name)
        return late, endpoint, {"model_name": name, **_facts(listing, endpoint)}

    def _learn(self, guessed: OpenAIRequests, name: str, told: Future[Listing]) -> None:
        """Goes on with what a slow server told of its models after all."""
        if told.cancelled() or told.exception() is not None:
            return
        listing = told.result()
        endpoint = listing.endpoint(self._models.server.url, name)
        with self._moving:
            if self._requests is guessed and listing.model(name) is not None:
                self._requests = OpenAIRequests(endpoint, self._settings.max_images_per_prompt)
                self._lifecycle.note(**_facts(listing, endpoint))

    def _first(self, listing: Listing) -> str:
        url = self._models.server.url
        if listing.models is None:
            raise EngineUnavailable(
                f"The server at {url} does not tell its models (/v1/models). Check VLLM_BASE_URL; if it is right, set "
                "VLLM_MODEL_NAME to the model's name there."
            )
        if not listing.models:
            raise EngineUnavailable(f"The server at {url} has no model. Start it with one.")
        return listing.models[0].id

    def _asked(self, conversation: Conversation, requests: OpenAIRequests, deadline_s: float | None) -> Asked:
        async def not_found(refusal: EngineError) -> EngineError:
            if conversation.lora:
                return await self._models.gone(conversation.lora, refusal, OTHER_LORA)
            error = await self._models.gone(self._lifecycle.status.model_name, refusal, OTHER_MODEL)
            return EngineUnavailable(str(error))

        return self._models.asked(requests, conversation, deadline_s, not_found)

    def _forget(self, requests: OpenAIRequests, state: EngineState, error: str) -> None:
        """Notes that a server cannot be used, unless somebody has noted that, or found it again, meanwhile."""
        with self._moving:
            if self._requests is requests:
                self._requests = None
                self._lifecycle.move(state, error=error)


def _facts(listing: Listing, endpoint: Endpoint) -> dict[str, Any]:
    """What the status tells of a server's model."""
    return {
        "max_model_len": endpoint.max_model_len,
        "vllm_version": listing.version if endpoint.is_vllm else None,
        "served_models": listing.ids[:MOST_LISTED],
    }
