"""A model on another server: `vllm serve`, or any other with the OpenAI API.

Implements `engine.interface.Engine` over `/v1/chat/completions`. `load` only asks the server for its models. The import
is cheap: httpx is imported with the first request.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import chain
from typing import Any

from engine.errors import EngineError, EngineUnavailable, OffloadUnsupported
from engine.interface import Completion, Control, Conversation, EngineState, EngineStatus, OnPhase, SpeechWindow
from engine.lifecycle import Lifecycle
from engine.loading import SharedLoad
from engine.model_config import transcribes_elsewhere
from engine.prompts.conversation_checks import ConversationChecks
from engine.remote.failures import NoListing, server_of
from engine.remote.generation import PendingRequest, RemoteGeneration
from engine.remote.json_completions import checked_json
from engine.remote.model_server import PATIENCE_S, Listing, ModelServer, hang_up
from engine.remote.requests import Endpoint, OpenAIRequests
from engine.schemas.vetting import SchemaVetting
from http_client.event_loop import EventLoopThread
from http_client.outgoing import Outgoing
from sandbox.pool import Sandbox
from settings import EngineSettings

log = logging.getLogger("engine")

DEVICE = "remote"
MAX_LISTED = 500
OTHER_MODEL = (
    "Set VLLM_MODEL_NAME to one of them, or leave it empty for the first. If the server accepts that name without "
    "listing it, set VLLM_UNLISTED_MODELS=1."
)
OTHER_NAME = (
    "Give one of them as the argument model, or leave it out. If the server accepts that name without listing it, set "
    "VLLM_UNLISTED_MODELS=1."
)
OTHER_LORA = (
    "The argument lora must name an adapter that the server was started with (--lora-modules): use one of those, or "
    "leave lora out."
)


class RemoteEngine:
    """The engine of a remote server. Any thread may call any method; generations run concurrently.

    Arguments:
        settings: the server's address and key, and the model's name.
        outgoing: makes the HTTP client.
        n_callers: how many generations may run at once.
        sandbox: where schemas are compiled before the server gets them.
        beside: the engine of another model of the same server, whose connections this one uses.
        limits: `silence_s` and `ask_timeout_s` of `RemoteServer`.
    """

    def __init__(
        self,
        settings: EngineSettings,
        outgoing: Outgoing | None = None,
        n_callers: int = 1,
        sandbox: Sandbox | None = None,
        beside: RemoteEngine | None = None,
        **limits: float,
    ) -> None:
        server = server_of(settings.base_url or "", settings.remote_api_key, **limits)
        self._settings = settings
        # A schema that crashes the compiler would end a vLLM server for all its users.
        self._checks = ConversationChecks(settings, SchemaVetting(sandbox or Sandbox()).check)
        self._name = None if settings.is_bundled else settings.model_name
        self._hint = OTHER_MODEL if settings.served_name is None else OTHER_NAME
        self._lifecycle = Lifecycle(
            EngineStatus(
                EngineState.UNLOADED,
                settings.served_name or self._name or f"the first model of {server.url}",
                device=DEVICE,
                can_offload=False,
                server_url=server.url,
            )
        )
        self._owns_connections = beside is None
        self._loop: EventLoopThread = EventLoopThread("remote engine") if beside is None else beside._loop
        self._models: ModelServer = (
            ModelServer(server, outgoing or Outgoing(), self._loop, n_callers) if beside is None else beside._models
        )
        self._requests: OpenAIRequests | None = None
        self._shared_load = SharedLoad()
        self._moving = threading.Lock()
        """Held while the state and `_requests` change together."""

    def status(self) -> EngineStatus:
        """What is known now, without a request.

        `last_used_s` is `None`: there is nothing in this machine's memory to release when idle.
        """
        return dataclasses.replace(self._lifecycle.status, last_used_s=None)

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Asks the server for its models; see `Engine.load`."""
        return 0.0 if self._requests is not None else self._shared_load.run(self._ask_for_models, on_phase)

    def check(self, conversation: Conversation, control: Control) -> Conversation:
        """Checks a conversation; see `Engine.check`."""
        return self._checks.check(conversation, control)

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Sends all conversations concurrently; see `Engine.generate`."""
        conversations = iter(conversations)
        first = next(conversations, None)
        if first is None:
            return []
        while (requests := self._requests) is None:
            if self.load(control.on_phase) and control.on_ready is not None:
                control.on_ready()

        def prepare(conversation: Conversation) -> PendingRequest:
            return self._prepare(conversation, requests, control.deadline_s)

        generation = RemoteGeneration(prepare, self._models.submit, chain([first], conversations), control)
        try:
            completions = generation.run()
        finally:
            if generation.unavailable is not None and not self._loop.is_closed:
                self._forget(requests, EngineState.FAILED, str(generation.unavailable))
        return checked_json(generation.conversations, completions)

    def transcribe(self, windows: Iterable[SpeechWindow], control: Control) -> list[Completion]:
        """Raises `InvalidGeneration`."""
        raise transcribes_elsewhere()

    def offload(self) -> None:
        """Raises `OffloadUnsupported`: the model is not on this machine."""
        raise OffloadUnsupported(
            f"Offloading is not possible: the model runs on the server at {self._models.server.url}, not in this "
            "machine's memory."
        )

    def release(self) -> None:
        """Forgets the server's models; the server keeps its model loaded. The next call asks again."""
        with self._moving:
            if self._lifecycle.state in (EngineState.READY, EngineState.FAILED):
                self._requests = None
                self._lifecycle.move(EngineState.UNLOADED)

    def process_ids(self) -> list[int]:
        """Only this process."""
        return [os.getpid()]

    def close(self) -> None:
        """Closes all connections, which also ends the requests at the server; not those of another engine."""
        if self._owns_connections:
            self._loop.close(lambda: hang_up([self._models]))

    def _ask_for_models(self, on_phase: OnPhase) -> None:
        with self._moving:
            if self._requests is not None:
                return
            self._lifecycle.move(EngineState.LOADING)
        try:
            on_phase("asking the model server")
            late, endpoint, facts = self._find_endpoint()
        except BaseException as error:
            reason = str(error) if isinstance(error, EngineError) else type(error).__name__
            with self._moving:
                self._lifecycle.move(EngineState.FAILED, error=reason)
            raise
        with self._moving:
            self._lifecycle.move(EngineState.READY, **facts)
            self._requests = requests = OpenAIRequests(endpoint, self._settings.max_images_per_prompt)
        if late is not None:
            late.add_done_callback(lambda asking: self._use_late_listing(requests, endpoint.model, asking))

    def _find_endpoint(self) -> tuple[Future[Listing] | None, Endpoint, dict[str, Any]]:
        """The endpoint to use, with its facts for the status. The future is a request for the models that is still
        running, `None` where it has ended."""
        url, name = self._models.server.url, self._name
        asking: Future[Listing] = self._models.submit(self._models.listing())
        late = None
        try:
            listing = asking.result(PATIENCE_S if name is not None else None)
        except TimeoutError:
            log.warning("%s is slow to list its models; %s is used without the list", url, name)
            late, listing = asking, Listing(None)
        except NoListing as error:
            if name is None:
                raise
            log.warning("%s does not list its models: %s", url, error)
            listing = Listing(None)
        if name is None:
            name = self._first(listing)
        if listing.ids and listing.model(name) is None and not self._settings.unlisted_models:
            raise EngineUnavailable(self._models.no_such_model(name, listing.ids, self._hint))
        endpoint = listing.endpoint(url, name)
        return late, endpoint, {"model_name": self._settings.served_name or name, **_facts(listing, endpoint)}

    def _use_late_listing(self, guessed: OpenAIRequests, name: str, asking: Future[Listing]) -> None:
        """Replaces the guessed endpoint when a slow server has listed its models."""
        if asking.cancelled() or asking.exception() is not None:
            return
        listing = asking.result()
        endpoint = listing.endpoint(self._models.server.url, name)
        with self._moving:
            if self._requests is guessed and listing.model(name) is not None:
                self._requests = OpenAIRequests(endpoint, self._settings.max_images_per_prompt)
                self._lifecycle.note(**_facts(listing, endpoint))

    def _first(self, listing: Listing) -> str:
        url = self._models.server.url
        if listing.models is None:
            raise EngineUnavailable(
                f"The server at {url} does not list its models (/v1/models). Check VLLM_BASE_URL; if it is right, set "
                "VLLM_MODEL_NAME to the model's name there."
            )
        if not listing.models:
            raise EngineUnavailable(f"The server at {url} has no model. Start it with one.")
        return listing.models[0].id

    def _prepare(
        self, conversation: Conversation, requests: OpenAIRequests, deadline_s: float | None
    ) -> PendingRequest:
        async def not_found(refusal: EngineError) -> EngineError:
            if conversation.lora:
                return await self._models.not_found(conversation.lora, refusal, OTHER_LORA)
            error = await self._models.not_found(requests.model, refusal, self._hint)
            return EngineUnavailable(str(error))

        return self._models.prepare(requests, conversation, deadline_s, not_found)

    def _forget(self, requests: OpenAIRequests, state: EngineState, error: str) -> None:
        """Stores that the server is unavailable, unless another call has changed that in the meantime."""
        with self._moving:
            if self._requests is requests:
                self._requests = None
                self._lifecycle.move(state, error=error)


def _facts(listing: Listing, endpoint: Endpoint) -> dict[str, Any]:
    """The facts of a server's model in the status."""
    return {
        "max_model_len": endpoint.max_model_len,
        "vllm_version": listing.version if endpoint.is_vllm else None,
        "served_models": listing.ids[:MAX_LISTED],
    }
