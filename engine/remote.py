"""A model on another machine, or in another process: vLLM's own server or any other of the OpenAI API.

The whole interface of an engine over `/v1/chat/completions`. Nothing is loaded here; what counts as a load is that the
server is asked which models it has. Importing this module costs milliseconds; httpx comes with the first question.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from engine import structured
from engine.arguments import is_bundled
from engine.errors import EngineError, EngineUnavailable, InvalidGeneration, OffloadUnsupported, PromptTooLong
from engine.interface import Completion, Control, Conversation, EngineState, EngineStatus, OnPhase
from engine.lifecycle import Lifecycle
from engine.loading import SharedLoad
from engine.loop_thread import LoopThread
from engine.openai_requests import Endpoint, OpenAIRequests, max_answer_bytes
from engine.remote_failures import RemoteServer
from engine.remote_generation import AT_ONCE, Asked, OnChunk, RemoteGeneration
from engine.streamed_answer import StreamedAnswer
from settings import EngineSettings

if TYPE_CHECKING:
    from engine.openai_client import OpenAIClient, ServedModel

log = logging.getLogger("engine")

DEVICE = "remote"
SILENCE_S = 600.0
"""How long a server may send nothing of an answer: a busy one has requests wait for minutes."""
MOST_NAMES = 20
"""Of a server's models in an error: some have hundreds."""
MOST_LISTED = 500
VLLM = "vllm"


class RemoteEngine:
    """An engine of `engine.interface` over a server's OpenAI API.

    Any thread may call any method; generations go on side by side.

    Arguments:
        settings: the server's address and key, and the model's name there.
        silence_s: seconds without a piece of an answer until it is given up.
        n_callers: how many generations there may be at a time.
    """

    def __init__(self, settings: EngineSettings, silence_s: float = SILENCE_S, n_callers: int = 1) -> None:
        url = (settings.base_url or "").rstrip("/").removesuffix("/v1")
        self._settings = settings
        self._name = None if is_bundled(settings) else settings.model_name
        self._server = RemoteServer(url, (settings.remote_api_key or "").strip() or None)
        self._silence_s = silence_s
        self._max_connections = AT_ONCE + n_callers - 1  # a large batch never keeps the others waiting
        self._lifecycle = Lifecycle(
            EngineStatus(
                EngineState.UNLOADED,
                self._name or f"the first model of {url}",
                device=DEVICE,
                can_offload=False,
                server_url=url,
            )
        )
        self._loop = LoopThread("remote engine")
        self._opened: OpenAIClient | None = None
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

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations side by side; see `Engine.generate`."""
        conversations = iter(conversations)
        first = next(conversations, None)
        if first is None:
            return []
        while (requests := self._requests) is None:
            self.load(control.on_phase)

        def prepare(conversation: Conversation) -> Asked:
            return self._asked(conversation, requests, control.deadline_s)

        def each() -> Iterable[Conversation]:
            yield first
            yield from conversations

        generation = RemoteGeneration(prepare, self._submit, each(), control)
        try:
            completions = generation.run()
        finally:
            if generation.unavailable is not None and not self._loop.is_closed:
                self._forget(requests, EngineState.FAILED, str(generation.unavailable))
        return structured.checked(generation.conversations, completions)

    def offload(self) -> None:
        """Refuses: there is nothing here to move."""
        raise OffloadUnsupported(
            f"Offloading is not possible: the model runs on the server at {self._server.url}, and nothing of it is in "
            "this machine's memory."
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
        self._loop.close(self._hang_up)

    def _ask_for_models(self, on_phase: OnPhase) -> None:
        with self._moving:
            if self._requests is not None:
                return
            self._lifecycle.move(EngineState.LOADING)
        try:
            on_phase("asking the model server")
            endpoint, facts = self._found()
        except BaseException as error:
            told = str(error) if isinstance(error, EngineError) else type(error).__name__
            with self._moving:
                self._lifecycle.move(EngineState.FAILED, error=told)
            raise
        with self._moving:
            self._lifecycle.move(EngineState.READY, **facts)
            self._requests = OpenAIRequests(endpoint, self._settings.max_images_per_prompt)

    def _found(self) -> tuple[Endpoint, dict[str, Any]]:
        """The server's model to use, and what the status tells of it."""
        models, version = self._submit(self._ask()).result()
        name = self._name
        if name is None:
            if not models:
                raise EngineUnavailable(f"The server at {self._server.url} has no model. Start it with one.")
            name = models[0].id
        model = next((model for model in models if model.id == name), None)
        if model is None and models:
            raise EngineUnavailable(self._no_such_model(name, models))
        is_vllm = model is not None and model.owned_by == VLLM
        if model is not None and model.owned_by is None and version is not None:
            is_vllm = True  # a router in front of vLLM that leaves the owner out
        limit = model.max_model_len if model is not None else None
        facts = {
            "model_name": name,
            "max_model_len": limit,
            "vllm_version": version if is_vllm else None,
            "served_models": tuple(model.id for model in models[:MOST_LISTED]),
        }
        return Endpoint(self._server.url, name, is_vllm, limit), facts

    async def _ask(self) -> tuple[list[ServedModel], str | None]:
        """The server's models, none where it does not list them but the settings name one; vLLM's version."""
        from engine.openai_client import NotFound

        client = self._client()
        try:
            models = await client.models()
        except NotFound:
            if self._name is None:
                raise EngineUnavailable(
                    f"The server at {self._server.url} does not tell its models (/v1/models). Check VLLM_BASE_URL; if "
                    "it is right, set VLLM_MODEL_NAME to the model's name there."
                ) from None
            return [], None
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise EngineUnavailable(str(error)) from None
        foreign = any(model.owned_by not in (VLLM, None) for model in models)
        return models, None if foreign else await client.version()

    def _asked(self, conversation: Conversation, requests: OpenAIRequests, deadline_s: float | None) -> Asked:
        body = requests.body(conversation)
        max_bytes = max_answer_bytes(conversation)

        async def stream(on_chunk: OnChunk) -> None:
            from engine.openai_client import NotFound

            client = self._client()
            try:
                try:
                    await client.chat(body, max_bytes, deadline_s, on_chunk)
                except PromptTooLong as error:
                    if error.prompt_tokens is None or error.prompt_tokens >= error.max_model_len:
                        raise
                    # Some servers refuse what vLLM shortens: an answer that could be longer than the room left.
                    room = error.max_model_len - error.prompt_tokens
                    await client.chat(requests.most_tokens(body, room), max_bytes, deadline_s, on_chunk)
            except NotFound as error:
                raise await self._gone(body["model"], error) from None

        return Asked(stream, StreamedAnswer(conversation, requests.is_forced_here(conversation)))

    async def _gone(self, name: str, refusal: EngineError) -> EngineError:
        """What it means that the server knows no such model, or has no chat at all."""
        models = await self._client().models()
        if any(model.id == name for model in models):
            return EngineUnavailable(f"{refusal} Check that the model {name} is one for chat.")
        error = self._no_such_model(name, models)
        return EngineUnavailable(error) if name == self._lifecycle.status.model_name else InvalidGeneration(error)

    def _no_such_model(self, name: str, models: list[ServedModel]) -> str:
        names = [self._server.plain(model.id) for model in models]
        listed = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES))
        return (
            f"The server at {self._server.url} has no model {name[:100]!r}; it has {listed or 'none'}. Set "
            "VLLM_MODEL_NAME to one of them, or leave it empty for the first."
        )

    def _client(self) -> OpenAIClient:
        """The connections to the server; made and used on the loop's thread."""
        if self._opened is None:
            from engine.openai_client import OpenAIClient

            key = self._server.key or ""
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise EngineUnavailable("VLLM_REMOTE_API_KEY holds characters that no key has. Set it anew.")
            self._opened = OpenAIClient(self._server, self._max_connections, self._silence_s)
        return self._opened

    async def _hang_up(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    def _submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return self._loop.submit(coroutine)

    def _forget(self, requests: OpenAIRequests, state: EngineState, error: str) -> None:
        """Notes that a server cannot be used, unless somebody has noted that, or found it again, meanwhile."""
        with self._moving:
            if self._requests is requests:
                self._requests = None
                self._lifecycle.move(state, error=error)
