"""A model on another machine, or in another process: vLLM's own server or any other of the OpenAI API.

The whole interface of an engine over `/v1/chat/completions`. Nothing is loaded here; what counts as a load is that the
server is asked which models it has. Importing this module costs milliseconds; httpx comes with the first question.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Iterable

from engine import structured
from engine.arguments import is_bundled
from engine.errors import EngineError, EngineUnavailable, OffloadUnsupported
from engine.interface import Completion, Control, Conversation, EngineState, EngineStatus, OnPhase
from engine.lifecycle import Lifecycle
from engine.loop_thread import LoopThread
from engine.model_server import SILENCE_S, Listing, ModelServer
from engine.openai_requests import Endpoint, OpenAIRequests
from engine.remote_failures import server_of
from engine.remote_generation import Asked, RemoteGeneration
from settings import EngineSettings

log = logging.getLogger("engine")

DEVICE = "remote"
MOST_LISTED = 500
OTHER_MODEL = "Set VLLM_MODEL_NAME to one of them, or leave it empty for the first."


class RemoteEngine:
    """An engine of `engine.interface` over a server's OpenAI API.

    One thread owns it: `load`, `generate`, `offload` and `release` are called from there alone; `status`,
    `process_ids` and `close` from any thread.

    Arguments:
        settings: the server's address and key, and the model's name there.
        silence_s: seconds without a piece of an answer until it is given up.
    """

    def __init__(self, settings: EngineSettings, silence_s: float = SILENCE_S) -> None:
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
        self._models = ModelServer(server, self._loop, silence_s)
        self._requests: OpenAIRequests | None = None

    def status(self) -> EngineStatus:
        """What is known now; asks nobody; safe from any thread.

        There is no last use: nothing of it is in this machine's memory, so no idle time is counted.
        """
        return dataclasses.replace(self._lifecycle.status, last_used_s=None)

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Finds out which models the server has; see `Engine.load`."""
        if self._requests is not None:
            return 0.0
        started = time.monotonic()
        self._lifecycle.move(EngineState.LOADING)
        try:
            if on_phase is not None:
                on_phase("asking the model server")
            endpoint = self._found()
        except EngineError as error:
            self._lifecycle.move(EngineState.FAILED, error=str(error))
            raise
        except BaseException as error:
            self._lifecycle.move(EngineState.FAILED, error=type(error).__name__)
            raise
        self._requests = OpenAIRequests(endpoint, self._settings.max_images_per_prompt)
        return time.monotonic() - started

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations side by side; see `Engine.generate`."""
        conversations = iter(conversations)
        first = next(conversations, None)
        if first is None:
            return []
        self.load(control.on_phase)

        def prepare(conversation: Conversation) -> Asked:
            return self._asked(conversation, control.deadline_s)

        def each() -> Iterable[Conversation]:
            yield first
            yield from conversations

        generation = RemoteGeneration(prepare, self._models.submit, each(), control)
        try:
            completions = generation.run()
        finally:
            if generation.unavailable is not None and not self._loop.is_closed:
                self._forget(EngineState.FAILED, str(generation.unavailable))
        return structured.checked(generation.conversations, completions)

    def offload(self) -> None:
        """Refuses: there is nothing here to move."""
        raise OffloadUnsupported(
            f"Offloading is not possible: the model runs on the server at {self._models.server.url}, and nothing of it "
            "is in this machine's memory."
        )

    def release(self) -> None:
        """Forgets what is known of the server, which keeps its model; the next call asks again."""
        if self._lifecycle.state is not EngineState.UNLOADED:
            self._forget(EngineState.UNLOADED)

    def process_ids(self) -> list[int]:
        """Only this process."""
        return [os.getpid()]

    def close(self) -> None:
        """Closes all connections, which stops what the server still works on."""
        self._loop.close(self._models.hang_up)

    def _found(self) -> Endpoint:
        """The server's model to use, which goes into the status too."""
        url, name = self._models.server.url, self._name
        listing: Listing = self._models.submit(self._models.listing()).result()
        if name is None:
            name = self._first(listing)
        if listing.ids and listing.model(name) is None:
            raise EngineUnavailable(self._models.no_such_model(name, list(listing.ids), OTHER_MODEL))
        endpoint = listing.endpoint(url, name)
        self._lifecycle.move(
            EngineState.READY,
            model_name=name,
            max_model_len=endpoint.max_model_len,
            vllm_version=listing.version if endpoint.is_vllm else None,
            served_models=listing.ids[:MOST_LISTED],
        )
        return endpoint

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

    def _asked(self, conversation: Conversation, deadline_s: float | None) -> Asked:
        assert self._requests is not None

        async def not_found(refusal: EngineError) -> EngineError:
            name = conversation.lora or self._lifecycle.status.model_name
            error = await self._models.gone(name, refusal, OTHER_MODEL)
            return error if conversation.lora else EngineUnavailable(str(error))

        return self._models.asked(self._requests, conversation, deadline_s, not_found)

    def _forget(self, state: EngineState, error: str | None = None) -> None:
        self._requests = None
        self._lifecycle.move(state, error=error)
