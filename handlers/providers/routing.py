"""The provider and the model of a call: as named by the caller, or found in the providers' model lists."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import EngineError, UnknownModel
from engine.interface import EngineState
from engine.remote.failures import NoListing
from engine.remote.model_server import PATIENCE_S
from handlers.model.states import accepted
from http_client.model_list import ServedModel
from settings.providers import LOCAL

if TYPE_CHECKING:
    from engine.remote.model_server import Listing
    from engine.remote.providers import Provider
    from handlers.services import Services
    from mcp_protocol.calls.call import Call

MAX_NAMES = 20


class NoSuchChoice(Exception):
    """No provider has what the call names; `str()` says what to do."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen provider and model.

    `provider` is `None` for the engines of this server; `local` is the name of the model among them then, and `lora` an
    adapter of it. `also` are other providers with a model of the same name.
    """

    name: str
    model: ServedModel
    provider: Provider | None = None
    listing: Listing | None = None
    local: str | None = None
    lora: str | None = None
    also: tuple[str, ...] = ()

    def takes(self, modality: str) -> bool | None:
        """Whether the model accepts text, image, audio or video; `None` if unknown."""
        if self.provider is None:
            return self.model.accepts(modality)
        return self.provider.accepts(self.model, modality)

    @property
    def is_vllm(self) -> bool:
        """Whether vLLM runs the model, here or remotely."""
        return self.listing is None or self.listing.is_vllm(self.model.id)


def choose(provider: str | None, model: str | None, call: Call, services: Services) -> Choice:
    """The provider and the model of a call.

    Raises: `NoSuchChoice`; `EngineUnavailable` if the named provider does not respond; `GenerationCancelled`.
    """
    names = provider_names(services)
    if provider is not None and provider not in names:
        raise NoSuchChoice(f"There is no provider {provider[:60]!r}; there are {', '.join(names)}.")
    if provider is None and (model is None or (LOCAL in names and _local_choice(model, services) is not None)):
        provider = names[0]
    if provider == LOCAL:
        choice = _local_choice(model, services)
        if choice is None:
            raise NoSuchChoice(
                f"The provider local has no model {(model or '')[:100]!r}; it has {', '.join(local_names(services))}."
            )
        return choice
    if provider is not None:
        named = services.providers.named(provider)
        assert named is not None
        return _choose_model(named, model, call, services)
    assert model is not None
    return _choose_provider(model, call, services)


def provider_names(services: Services) -> list[str]:
    """The names of all providers; the engine of this server, or the remote server in its place, is first."""
    local = [LOCAL] if services.settings.engine.base_url is None else []
    return local + [provider.name for provider in services.providers.all]


def local_names(services: Services) -> list[str]:
    """The names of the local models, and of their LoRA adapters."""
    models = services.models.settings
    return list(dict.fromkeys([*models, *(lora for settings in models.values() for lora in settings.lora_modules)]))


def local_model(services: Services, name: str, lora: str | None = None) -> ServedModel:
    """A local model, or an adapter of it, as far as it is known without loading it."""
    status = services.models.statuses()[name]
    known = accepted(status)
    return ServedModel(lora or name, context_length=status.max_model_len, modalities=tuple(known) if known else None)


def local_reachable(services: Services) -> bool | None:
    """Whether a local engine works; `None` before the first load."""
    states = {status.state for status in services.models.statuses().values()}
    if states.intersection({EngineState.READY, EngineState.OFFLOADED}):
        return True
    return False if EngineState.FAILED in states else None


def _local_choice(model: str | None, services: Services) -> Choice | None:
    models = services.models
    if model == models.engine().status().model_name:
        model = None
    with contextlib.suppress(UnknownModel):
        name = models.name_of(model)
        return Choice(LOCAL, local_model(services, name), local=name)
    base = next((name for name, settings in models.settings.items() if model in settings.lora_modules), None)
    return None if base is None else Choice(LOCAL, local_model(services, base, model), local=base, lora=model)


def _choose_model(provider: Provider, model: str | None, call: Call, services: Services) -> Choice:
    """The model of a provider that the call names."""
    cached = provider.known()
    choice = None if cached is None else _choice_from(provider, cached, model)
    if choice is not None:
        return choice
    is_named = bool(model or provider.facts.default_model or provider.facts.models)
    listing = _listings([provider], call, services, PATIENCE_S if is_named else None)[provider.name]
    if isinstance(listing, NoListing) and is_named:
        listing = provider.without_list(listing)
    if isinstance(listing, EngineError):
        raise listing
    choice = _choice_from(provider, listing, model)
    if choice is not None:
        return choice
    models = provider.models(listing)
    names = ", ".join(each.id for each in models[:MAX_NAMES]) or "none"
    more = f" and {len(models) - MAX_NAMES} more" if len(models) > MAX_NAMES else ""
    if model is not None:
        raise NoSuchChoice(
            f"The provider {provider.name} has no model {model[:100]!r}; it has {names}{more}. If it accepts names "
            "that it does not list, set VLLM_UNLISTED_MODELS=1, or add the model to the provider in VLLM_CONFIG_FILE."
        )
    raise NoSuchChoice(f"Set model: the provider {provider.name} has {names}{more}.")


def _choice_from(provider: Provider, listing: Listing, model: str | None) -> Choice | None:
    """The named or the default model in a provider's list; `None` if it is not there."""
    models = provider.models(listing)
    if model is None:
        model = provider.facts.default_model
        if model is None and models and (len(models) == 1 or provider.facts.first_model_is_default):
            model = models[0].id
    if model is None:
        return None
    entry = next((each for each in models if each.id == model), None)
    has_no_list = listing.models is None and not provider.facts.models
    if entry is None and (has_no_list or provider.facts.unlisted_models):
        entry = ServedModel(model)  # a service without a list may have any model
    return None if entry is None else Choice(provider.name, entry, provider, listing)


def _choose_provider(model: str, call: Call, services: Services) -> Choice:
    """The first provider that has the model, among all that are configured."""
    providers = [provider for provider in services.providers.all if provider.facts.missing is None]
    cached = {provider.name: listing for provider in providers if (listing := provider.known()) is not None}
    others = [provider for provider in providers if provider.name not in cached]
    listings: dict[str, Listing | EngineError] = {**cached, **_listings(others, call, services, PATIENCE_S)}
    while (late := _late(others, listings)) and not _with_model(model, providers, listings):
        listings |= _listings([provider for provider, _ in late], call, services, PATIENCE_S)
    for provider, error in late:  # so that the next call does not wait for it
        if provider.known() is None:
            provider.without_list(error)
    if not _with_model(model, providers, listings) and cached:
        listings |= _listings([provider for provider in providers if provider.name in cached], call, services)
    matches = _with_model(model, providers, listings)
    if matches:
        provider, listing = matches[0]
        choice = _choice_from(provider, listing, model)
        assert choice is not None
        return Choice(choice.name, choice.model, provider, listing, also=tuple(each.name for each, _ in matches[1:]))
    failures = [str(result) for result in listings.values() if isinstance(result, EngineError)]
    missing = [provider.not_configured() for provider in services.providers.all if provider.facts.missing is not None]
    searched = [name for name, result in listings.items() if not isinstance(result, EngineError)]
    local = [LOCAL] if services.settings.engine.base_url is None else []
    raise NoSuchChoice(
        " ".join(
            [
                f"No provider has a model {model[:100]!r}; searched: {', '.join(local + searched) or 'none'}.",
                "list_available_providers lists all models. With provider and VLLM_UNLISTED_MODELS=1 a model need not "
                "be listed.",
                *failures,
                *missing,
            ]
        )
    )


def _late(
    providers: Iterable[Provider], listings: dict[str, Listing | EngineError]
) -> list[tuple[Provider, NoListing]]:
    """The providers that have not responded yet."""
    pairs = [(provider, listings[provider.name]) for provider in providers]
    return [(provider, error) for provider, error in pairs if isinstance(error, NoListing) and error.is_late]


def _with_model(
    model: str, providers: Iterable[Provider], listings: dict[str, Listing | EngineError]
) -> list[tuple[Provider, Listing]]:
    """The providers that list the model."""
    return [
        (provider, listing)
        for provider in providers
        if (listing := listings.get(provider.name)) is not None
        and not isinstance(listing, EngineError)
        and any(each.id == model for each in provider.models(listing))
    ]


def _listings(
    providers: list[Provider], call: Call, services: Services, patience_s: float | None = None
) -> dict[str, Listing | EngineError]:
    """The model list of each provider, from its settings if it does not respond, or its error."""
    listings = services.providers.ask(providers, call.cancellation, call.deadline_s, patience_s)
    for provider in providers:
        result = listings[provider.name]
        if isinstance(result, NoListing) and provider.facts.models:
            listings[provider.name] = provider.without_list(result)
    return listings
