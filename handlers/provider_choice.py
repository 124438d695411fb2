"""Which provider answers a call, and with which of its models: as named, or found by asking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.interface import EngineState
from engine.model_server import PATIENCE_S
from engine.offers import KnownModel
from engine.remote_failures import NoListing
from settings.providers import LOCAL

if TYPE_CHECKING:
    from engine.model_server import Listing
    from engine.providers import Provider
    from handlers.services import Services
    from mcp_protocol.call import Call

MOST_NAMES = 20


class NoSuchChoice(Exception):
    """No provider can be asked as the call wants it; `str()` says what to do."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers, with which model. `provider` is `None` for the engine of this server; `lora` is its adapter then.

    `also` are other providers that have a model of that name.
    """

    name: str
    model: KnownModel
    provider: Provider | None = None
    listing: Listing | None = None
    lora: str | None = None
    also: tuple[str, ...] = ()

    def takes(self, modality: str) -> bool | None:
        """Whether the model takes text, image, audio or video; `None`: not known."""
        if self.provider is None:
            return self.model.takes(modality)
        return self.provider.takes(self.model, modality)

    @property
    def is_vllm(self) -> bool:
        """Whether vLLM runs the model, here or there."""
        return self.listing is None or self.listing.is_vllm(self.model.id)


def choose(provider: str | None, model: str | None, call: Call, services: Services) -> Choice:
    """The provider and the model of a call.

    Raises: `NoSuchChoice`; `EngineUnavailable` where the provider that was named cannot be asked;
    `GenerationCancelled`.
    """
    names = provider_names(services)
    if provider is not None and provider not in names:
        raise NoSuchChoice(f"There is no provider {provider[:60]!r}; there are {', '.join(names)}.")
    if provider is None and (model is None or (LOCAL in names and _local_choice(model, services) is not None)):
        provider = names[0]
    if provider == LOCAL:
        found = _local_choice(model, services)
        if found is None:
            raise NoSuchChoice(
                f"The provider local has no model {(model or '')[:100]!r}; it has {', '.join(local_names(services))}."
            )
        return found
    if provider is not None:
        named = services.providers.named(provider)
        assert named is not None
        return _of(named, model, call, services)
    assert model is not None
    return _found(model, call, services)


def provider_names(services: Services) -> list[str]:
    """All providers, the engine of this server or the server in its place first."""
    local = [LOCAL] if services.settings.engine.base_url is None else []
    return local + [provider.name for provider in services.providers.all]


def local_names(services: Services) -> list[str]:
    """What the model of this server's engine may be called, its adapters included."""
    from engine.arguments import shown_name

    settings = services.settings.engine
    return list(dict.fromkeys([shown_name(settings), *settings.lora_modules]))


def local_model(services: Services, name: str | None = None) -> KnownModel:
    """What is known of the model of this server's engine without loading it."""
    status = services.engine.status()
    sees = {True: ("text", "image"), False: ("text",), None: None}[status.supports_images]
    return KnownModel(name or local_names(services)[0], sees, status.max_model_len)


def local_reachable(services: Services) -> bool | None:
    """Whether the engine here answers; `None` while nothing was loaded that could tell."""
    state = services.engine.status().state
    if state is EngineState.FAILED:
        return False
    return True if state in (EngineState.READY, EngineState.OFFLOADED) else None


def _local_choice(model: str | None, services: Services) -> Choice | None:
    settings = services.settings.engine
    if model is None or model in (local_names(services)[0], settings.model_name, services.engine.status().model_name):
        return Choice(LOCAL, local_model(services))
    if model in settings.lora_modules:
        return Choice(LOCAL, local_model(services, model), lora=model)
    return None


def _of(provider: Provider, model: str | None, call: Call, services: Services) -> Choice:
    """The model of a provider that the call names."""
    listing = provider.known()
    found = None if listing is None else _chosen(provider, listing, model)
    if found is not None:
        return found
    is_named = bool(model or provider.facts.default_model or provider.facts.models)
    told = _asked([provider], call, services, PATIENCE_S if is_named else None)[provider.name]
    if isinstance(told, NoListing) and is_named:
        told = provider.without_list(told)
    if isinstance(told, EngineError):
        raise told
    found = _chosen(provider, told, model)
    if found is not None:
        return found
    known = provider.models(told)
    names = ", ".join(each.id for each in known[:MOST_NAMES]) or "none"
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    if model is not None:
        raise NoSuchChoice(
            f"The provider {provider.name} has no model {model[:100]!r}; it has {names}{more}. If it takes that name "
            "though it does not list it, set VLLM_UNLISTED_MODELS=1, or name it among the models of the file in "
            "VLLM_CONFIG_FILE."
        )
    raise NoSuchChoice(f"Name a model: the provider {provider.name} has {names}{more}.")


def _chosen(provider: Provider, listing: Listing, model: str | None) -> Choice | None:
    known = provider.models(listing)
    if model is None:
        model = provider.facts.default_model
        if model is None and known and (len(known) == 1 or provider.facts.first_model_is_default):
            model = known[0].id
    if model is None:
        return None
    entry = next((each for each in known if each.id == model), None)
    is_untold = listing.models is None and not provider.facts.models
    if entry is None and (is_untold or provider.facts.unlisted_models):
        entry = KnownModel(model)  # a service that does not tell its models may have any
    return None if entry is None else Choice(provider.name, entry, provider, listing)


def _found(model: str, call: Call, services: Services) -> Choice:
    """The first provider that has the model, among all that are configured."""
    providers = [provider for provider in services.providers.all if provider.facts.missing is None]
    known = {provider.name: listing for provider in providers if (listing := provider.known()) is not None}
    unknown = [provider for provider in providers if provider.name not in known]
    told: dict[str, Listing | EngineError] = {**known, **_asked(unknown, call, services, PATIENCE_S)}
    while (late := _late(unknown, told)) and not _having(model, providers, told):
        told |= _asked([provider for provider, _ in late], call, services, PATIENCE_S)
    for provider, slow in late:  # the next call need not wait for it
        if provider.known() is None:
            provider.without_list(slow)
    if not _having(model, providers, told) and known:
        told |= _asked([provider for provider in providers if provider.name in known], call, services)
    having = _having(model, providers, told)
    if having:
        provider, listing = having[0]
        choice = _chosen(provider, listing, model)
        assert choice is not None
        return Choice(choice.name, choice.model, provider, listing, also=tuple(each.name for each, _ in having[1:]))
    failures = [str(result) for result in told.values() if isinstance(result, EngineError)]
    missing = [provider.not_configured() for provider in services.providers.all if provider.facts.missing is not None]
    asked = [name for name, result in told.items() if not isinstance(result, EngineError)]
    local = [LOCAL] if services.settings.engine.base_url is None else []
    raise NoSuchChoice(
        " ".join(
            [
                f"No provider has a model {model[:100]!r}; asked: {', '.join(local + asked) or 'none'}.",
                "list_available_providers names all models. With provider, a model is asked for that the provider does "
                "not list, if VLLM_UNLISTED_MODELS=1 allows it.",
                *failures,
                *missing,
            ]
        )
    )


def _late(providers: Iterable[Provider], told: dict[str, Listing | EngineError]) -> list[tuple[Provider, NoListing]]:
    """Those that may still tell their models."""
    found = [(provider, told[provider.name]) for provider in providers]
    return [(provider, slow) for provider, slow in found if isinstance(slow, NoListing) and slow.is_late]


def _having(
    model: str, providers: Iterable[Provider], told: dict[str, Listing | EngineError]
) -> list[tuple[Provider, Listing]]:
    found = []
    for provider in providers:
        listing = told.get(provider.name)
        if listing is None or isinstance(listing, EngineError):
            continue
        if any(each.id == model for each in provider.models(listing)):
            found.append((provider, listing))
    return found


def _asked(
    providers: list[Provider], call: Call, services: Services, patience_s: float | None = None
) -> dict[str, Listing | EngineError]:
    told = services.providers.ask(providers, call.cancelled, call.deadline_s, patience_s)
    for provider in providers:
        result = told[provider.name]
        if isinstance(result, NoListing) and provider.facts.models:  # the settings tell them
            told[provider.name] = provider.without_list(result)
    return told
