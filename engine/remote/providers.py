"""Providers: services with the OpenAI API and all their models; no sessions, nothing to load.

The import is cheap: httpx is imported with the first request.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from engine.errors import EngineError, EngineUnavailable, GenerationCancelled
from engine.interface import Completion, Control, Conversation
from engine.remote.failures import DASHSCOPE_HOSTS, NoListing, server_of
from engine.remote.generation import PendingRequest, RemoteGeneration
from engine.remote.media_parts import MediaPart, with_media
from engine.remote.model_server import Body, Listing, ModelServer, hang_up
from engine.remote.requests import OpenAIRequests, is_openai
from http_client.addresses import host_of
from http_client.event_loop import EventLoopThread
from http_client.model_list import ServedModel
from http_client.outgoing import Outgoing
from sandbox.cancellation import Cancellation
from settings.providers import RemoteProvider

KEEP_LISTING_S = 300.0
"""How long the list of a service's models is used without asking again."""
MAX_NAME_CHARACTERS = 256
"""Of a model; a longer name is not listed."""
OTHER_MODEL = "list_available_providers names those of all providers."


class Provider:
    """One service. Any thread may use it.

    Arguments:
        facts: its settings.
        outgoing: makes the HTTP client.
        loop: the event loop that its connections live on.
        n_callers: how many generations may run at once.
    """

    def __init__(self, facts: RemoteProvider, outgoing: Outgoing, loop: EventLoopThread, n_callers: int = 1) -> None:
        self.facts = facts
        server = server_of(
            facts.base_url,
            facts.api_key,
            address_setting=facts.address_setting,
            key_setting=facts.key_setting,
            silence_s=facts.silence_s,
            ask_timeout_s=facts.ask_timeout_s,
        )
        self.url = server.url
        self.server = ModelServer(server, outgoing, loop, n_callers)
        self._known: tuple[float, Listing] | None = None
        self._asking: Future[Listing] | None = None

    @property
    def name(self) -> str:
        """The name that calls use."""
        return self.facts.name

    @property
    def host(self) -> str:
        """The name of its host, in lower case."""
        return host_of(self.url)

    def known(self) -> Listing | None:
        """Its models, where the list is not older than `KEEP_LISTING_S`."""
        known = self._known
        return known[1] if known is not None and time.monotonic() - known[0] < KEEP_LISTING_S else None

    def ask(self) -> Future[Listing]:
        """Asks for its models now, or joins a request that is already running.

        Raises: `EngineUnavailable`, directly or through the future, where it is not configured or cannot be used.
        """
        if self.facts.missing is not None:
            raise EngineUnavailable(self.not_configured())
        asking = self._asking
        if asking is None or asking.done():
            self._asking = asking = self.server.submit(self._ask())
        return asking

    def without_list(self, problem: NoListing) -> Listing:
        """An empty listing for a service that does not list its models, where the call names a model.

        It is cached, since a failing request may take seconds.
        """
        listing = Listing(None, problem=str(problem))
        self._known = (time.monotonic(), listing)
        return listing

    def not_configured(self) -> str:
        """Which setting is missing."""
        return f"The provider {self.name} is not configured: set {self.facts.missing}."

    def models(self, listing: Listing) -> tuple[ServedModel, ...]:
        """The offered models: those in the settings, otherwise those that the service lists."""
        if not self.facts.models:
            return tuple(
                model
                for model in listing.models or ()
                if len(model.id) <= MAX_NAME_CHARACTERS and model.id.isprintable()
            )
        offered = []
        for entry in self.facts.models:
            listed = listing.model(entry.id) or ServedModel(entry.id)
            modalities = entry.modalities or listed.modalities
            context_length = entry.context_length or listed.context_length
            offered.append(ServedModel(entry.id, context_length=context_length, modalities=modalities))
        return tuple(offered)

    def accepts(self, model: ServedModel, modality: str) -> bool | None:
        """Whether a model of this provider accepts text, image, audio or video; `None` where that is not known."""
        if modality == "video" and is_openai(self.url):
            return False  # its API has no such part
        return model.accepts(modality)

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
        """Generates one completion.

        Arguments:
            model: its name at the service.
            listing: the service's models.
            conversation: what to send.
            control: how the generation is watched and stopped.
            media: audio and video for the last message.
            given: fields of the request that override ours.
            max_images: how many images a prompt may contain.

        Raises: see `Engine.generate`.
        """
        endpoint = listing.endpoint(self.url, model)
        requests = OpenAIRequests(endpoint, max_images)
        parts = tuple(media)
        is_dashscope = self.host.endswith(DASHSCOPE_HOSTS)

        async def not_found(refusal: EngineError) -> EngineError:
            self._known = None
            return await self.server.not_found(model, refusal, OTHER_MODEL)

        def finish(body: Body) -> Body:
            whole = {**body, **(given or {})}
            return with_media(whole, parts, is_dashscope=is_dashscope, is_vllm=endpoint.is_vllm)

        def prepare(one: Conversation) -> PendingRequest:
            return self.server.prepare(requests, one, control.deadline_s, not_found, finish)

        generation = RemoteGeneration(prepare, self.server.submit, [conversation], control)
        try:
            (completion,) = generation.run()
        finally:
            if generation.unavailable is not None:
                self._known = None
        return completion

    def check(
        self, model: str, listing: Listing, conversation: Conversation, media: Iterable[MediaPart], max_images: int
    ) -> None:
        """Builds a request without sending it.

        Raises: `InvalidGeneration` where the service cannot do what the conversation asks for.
        """
        with_media(OpenAIRequests(listing.endpoint(self.url, model), max_images).body(conversation), tuple(media))

    async def _ask(self) -> Listing:
        listing = await self.server.listing()
        self._known = (time.monotonic(), listing)
        return listing


class Providers:
    """All remote providers in their order, on one event loop; see `Provider`. Any thread may use them."""

    def __init__(self, facts: Iterable[RemoteProvider], outgoing: Outgoing | None = None, n_callers: int = 1) -> None:
        self._loop = EventLoopThread("providers")
        outgoing = outgoing or Outgoing()
        self.all = tuple(Provider(each, outgoing, self._loop, n_callers) for each in facts)

    def named(self, name: str) -> Provider | None:
        """The provider of that name."""
        return next((provider for provider in self.all if provider.name == name), None)

    def ask(
        self,
        providers: Iterable[Provider],
        cancellation: Cancellation,
        deadline_s: float | None = None,
        patience_s: float | None = None,
    ) -> dict[str, Listing | EngineError]:
        """Asks several providers for their models concurrently; returns the list or the error of each, by name.

        Arguments:
            providers: whom to ask.
            cancellation: ends the wait.
            deadline_s: `time.monotonic()` at which the wait ends with an error.
            patience_s: seconds after which the wait ends; a later response is cached for the next call.

        Raises: `GenerationCancelled`.
        """
        late_s = None if patience_s is None else time.monotonic() + patience_s
        results: dict[str, Listing | EngineError] = {}
        futures: dict[str, Future[Listing]] = {}
        for provider in providers:
            try:
                futures[provider.name] = provider.ask()
            except EngineError as error:
                results[provider.name] = error
        for name, future in futures.items():
            results[name] = _result(future, name, cancellation, deadline_s, late_s)
        return results

    def close(self) -> None:
        """Closes all connections, which also ends the requests at the services."""
        self._loop.close(lambda: hang_up(provider.server for provider in self.all))


def _result(
    future: Future[Listing], name: str, cancellation: Cancellation, deadline_s: float | None, late_s: float | None
) -> Listing | EngineError:
    """The result of one provider. A request continues after the wait: other calls may wait for it too."""
    ends_s = [end_s for end_s in (deadline_s, late_s) if end_s is not None]
    timeout_s = max(0.0, min(ends_s) - time.monotonic()) if ends_s else None
    if not cancellation.wait_for(future, timeout_s):
        if cancellation.is_set():
            raise GenerationCancelled("The call was cancelled.")
        if deadline_s is not None and (late_s is None or deadline_s <= late_s):
            return EngineUnavailable(f"The provider {name} did not list its models in time.")
        return NoListing(f"The provider {name} is slow to list its models.", is_late=True)
    if future.cancelled():
        return EngineUnavailable("The server is shutting down.")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, EngineError):
        return error
    raise error
