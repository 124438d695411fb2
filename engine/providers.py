"""Providers: services of the OpenAI API with all their models, each asked by name. No sessions, nothing to load.

Importing this module costs milliseconds; httpx comes with the first question.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from engine.errors import EngineError, EngineUnavailable, GenerationCancelled, InvalidGeneration
from engine.interface import Completion, Control, Conversation
from engine.loop_thread import LoopThread
from engine.model_server import Body, Listing, ModelServer
from engine.offers import KnownModel, MediaPart
from engine.openai_requests import OPENAI_HOST, OpenAIRequests
from engine.remote_failures import DASHSCOPE_HOSTS, NoListing, server_of
from engine.remote_generation import Asked, RemoteGeneration
from http_client.addresses import host_of
from http_client.outgoing import Outgoing
from settings.providers import RemoteProvider

KEEP_LISTING_S = 300.0
"""How long a service's models are remembered for finding one of them."""
LOOK_S = 0.05
"""How often cancelling and the deadline are looked at while services are asked."""
MOST_MEDIA_BYTES = 48 << 20
"""Of sound and film in one request; in base64 a third more, and services take less."""
MOST_NAME_CHARACTERS = 256
"""Of a model; what is longer is no name."""
OTHER_MODEL = "list_available_providers names those of all providers."


class Provider:
    """One service. Any thread may use it.

    Arguments: what the settings say of it; the way to it; the loop that its connections live on; how many generations
    there may be at a time.
    """

    def __init__(self, facts: RemoteProvider, outgoing: Outgoing, loop: LoopThread, n_callers: int = 1) -> None:
        self.facts = facts
        server = server_of(
            facts.base_url, facts.api_key, address_setting=facts.address_setting, key_setting=facts.key_setting
        )
        self.url = server.url
        self._server = ModelServer(server, outgoing, loop, facts.silence_s, facts.ask_timeout_s, n_callers)
        self._known: tuple[float, Listing] | None = None
        self._asking: Future[Listing] | None = None

    @property
    def name(self) -> str:
        """What calls name it by."""
        return self.facts.name

    @property
    def host(self) -> str:
        """Where it is."""
        return host_of(self.url)

    def known(self) -> Listing | None:
        """What it told of its models, if that was not long ago."""
        known = self._known
        return known[1] if known is not None and time.monotonic() - known[0] < KEEP_LISTING_S else None

    def ask(self) -> Future[Listing]:
        """Asks for its models now, or joins those who are asking.

        Raises: `EngineUnavailable`, at once or in the future, for what is not configured or cannot be used.
        """
        if self.facts.missing is not None:
            raise EngineUnavailable(self.not_configured())
        asking = self._asking
        if asking is None or asking.done():
            self._asking = asking = self._server.submit(self._ask())
        return asking

    def without_list(self, problem: NoListing) -> Listing:
        """What to go on with where a model is named and the service does not tell its models; remembered, since asking
        in vain may take seconds."""
        listing = Listing(None, problem=str(problem))
        self._known = (time.monotonic(), listing)
        return listing

    def not_configured(self) -> str:
        """What it needs to be used."""
        return f"The provider {self.name} is not configured: set {self.facts.missing}."

    def models(self, listing: Listing) -> tuple[KnownModel, ...]:
        """The models on offer: those that the settings name, else those that the service has."""
        if not self.facts.models:
            return tuple(
                KnownModel(model.id, model.modalities, model.context)
                for model in listing.models or ()
                if len(model.id) <= MOST_NAME_CHARACTERS and model.id.isprintable()
            )
        offered = []
        for entry in self.facts.models:
            told = listing.model(entry.id)
            modalities = entry.modalities or (told.modalities if told is not None else None)
            context = entry.context_length or (told.context if told is not None else None)
            offered.append(KnownModel(entry.id, modalities, context))
        return tuple(offered)

    def takes(self, model: KnownModel, modality: str) -> bool | None:
        """Whether a model here takes text, image, audio or video; `None`: not known."""
        if modality == "video" and (self.host == OPENAI_HOST or self.host.endswith(f".{OPENAI_HOST}")):
            return False  # its API has no such part
        return model.takes(modality)

    def generate(
        self,
        model: str,
        listing: Listing,
        conversation: Conversation,
        control: Control,
        *,
        media: Iterable[MediaPart] = (),
        given: Mapping[str, Any] | None = None,
        max_images: int,
    ) -> Completion:
        """Answers one conversation.

        Arguments: the model; what the service told of its models; the conversation and how it is watched; what goes
        with its last message; fields of the request that hold as they are; how many pictures a prompt may hold.
        Raises: as `Engine.generate`.
        """
        media = tuple(media)

        def prepare(asked: Conversation) -> Asked:
            return self._asked(model, listing, asked, control.deadline_s, media, given or {}, max_images)

        generation = RemoteGeneration(prepare, self._server.submit, [conversation], control)
        try:
            (completion,) = generation.run()
        finally:
            if generation.unavailable is not None:
                self._known = None
        return completion

    def check(
        self, model: str, listing: Listing, conversation: Conversation, media: Iterable[MediaPart], max_images: int
    ) -> None:
        """Makes a request and sends nothing.

        Raises: `InvalidGeneration` for what the service could not be asked.
        """
        with_media(OpenAIRequests(listing.endpoint(self.url, model), max_images).body(conversation), tuple(media))

    async def hang_up(self) -> None:
        """Closes all connections; runs on the loop."""
        await self._server.hang_up()

    async def _ask(self) -> Listing:
        listing = await self._server.listing()
        self._known = (time.monotonic(), listing)
        return listing

    def _asked(
        self,
        model: str,
        listing: Listing,
        conversation: Conversation,
        deadline_s: float | None,
        media: tuple[MediaPart, ...],
        given: Mapping[str, Any],
        max_images: int,
    ) -> Asked:
        async def not_found(refusal: EngineError) -> EngineError:
            self._known = None
            return await self._server.gone(model, refusal, OTHER_MODEL)

        def finish(body: Body) -> Body:
            return with_media({**body, **given}, media, is_dashscope=self.host.endswith(DASHSCOPE_HOSTS))

        requests = OpenAIRequests(listing.endpoint(self.url, model), max_images)
        return self._server.asked(requests, conversation, deadline_s, not_found, finish)


class Providers:
    """All remote providers in their order, on one loop. Any thread may use them."""

    def __init__(self, facts: Iterable[RemoteProvider], outgoing: Outgoing | None = None, n_callers: int = 1) -> None:
        self._loop = LoopThread("providers")
        way = outgoing or Outgoing()
        self.all = tuple(Provider(each, way, self._loop, n_callers) for each in facts)

    def named(self, name: str) -> Provider | None:
        """The provider of that name."""
        return next((provider for provider in self.all if provider.name == name), None)

    def ask(
        self,
        providers: Iterable[Provider],
        cancelled: Callable[[], bool],
        deadline_s: float | None = None,
        patience_s: float | None = None,
    ) -> dict[str, Listing | EngineError]:
        """Asks several for their models side by side; each answers, or says why not, by name.

        Arguments: `patience_s`, after which nobody is waited for. Who answers later is remembered for the next call.
        Raises: `GenerationCancelled`.
        """
        late_s = None if patience_s is None else time.monotonic() + patience_s
        found: dict[str, Listing | EngineError] = {}
        futures: dict[str, Future[Listing]] = {}
        for provider in providers:
            try:
                futures[provider.name] = provider.ask()
            except EngineError as error:
                found[provider.name] = error
        for name, future in futures.items():
            found[name] = _result(future, name, cancelled, deadline_s, late_s)
        return found

    def close(self) -> None:
        """Closes all connections, which stops what the services still work on."""

        async def hang_up() -> None:
            for provider in self.all:
                await provider.hang_up()

        self._loop.close(hang_up)


def with_media(body: Body, media: tuple[MediaPart, ...], *, is_dashscope: bool = False) -> Body:
    """The request with sound and film in its last message, in OpenAI's and vLLM's form.

    Raises: `InvalidGeneration` where that is too much.
    """
    n_bytes = sum(len(part.data) for part in media)
    if n_bytes > MOST_MEDIA_BYTES:
        raise InvalidGeneration(
            f"Audio and video together have {n_bytes / 1e6:.1f} MB; one request carries {MOST_MEDIA_BYTES / 1e6:.0f} "
            "MB. Send shorter ones."
        )
    if not media:
        return body
    *earlier, last = body["messages"]
    content = last["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    parts += [_media_part(part, is_dashscope) for part in media]
    return {**body, "messages": [*earlier, {**last, "content": parts}]}


def _media_part(part: MediaPart, is_dashscope: bool) -> dict[str, Any]:
    data = base64.b64encode(part.data).decode("ascii")
    if part.kind == "video":
        return {"type": "video_url", "video_url": {"url": f"data:{part.mime_type};base64,{data}"}}
    # DashScope takes an address here, and a data URL is one.
    written = f"data:;base64,{data}" if is_dashscope else data
    return {"type": "input_audio", "input_audio": {"data": written, "format": "wav"}}


def _result(
    future: Future[Listing],
    name: str,
    cancelled: Callable[[], bool],
    deadline_s: float | None,
    late_s: float | None,
) -> Listing | EngineError:
    """What one tells. A question that is given up goes on to its own end: others may wait for it too."""
    while not future.done():
        if cancelled():
            raise GenerationCancelled("The call was cancelled.")
        if deadline_s is not None and time.monotonic() >= deadline_s:
            return EngineUnavailable(f"The provider {name} did not tell its models in time.")
        if late_s is not None and time.monotonic() >= late_s:
            return NoListing(f"The provider {name} is slow to tell its models.", is_late=True)
        wait((future,), LOOK_S)
    if future.cancelled():
        return EngineUnavailable("The server is shutting down.")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, EngineError):
        return error
    raise error
