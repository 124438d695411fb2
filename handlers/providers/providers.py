"""Models of any provider: OpenAI, DashScope, other OpenAI-compatible services, and the engine of this server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import EngineError, GenerationCancelled
from engine.interface import Completion, FinishReason
from engine.remote.failures import NoListing
from handlers.chat.sampling import sampling_of
from handlers.model.model import control_of, model_in_use
from handlers.progress import TextProgress
from handlers.providers.attachments import Attachment, read_attachments
from handlers.providers.consent import require_consent
from handlers.providers.requests import GenerateArguments, ProviderName, check_request, conversation_of, given_fields
from handlers.providers.routing import NoSuchChoice, choose, local_model, local_reachable, provider_names
from handlers.usage import Stopwatch, Timings, Usage, usage_of
from mcp_protocol.tools.toolbox import ArgumentError
from settings.providers import LOCAL

if TYPE_CHECKING:
    from engine.remote.model_server import Listing
    from engine.remote.providers import Provider
    from handlers.services import Services
    from http_client.model_list import ServedModel
    from mcp_protocol.calls.call import Call

MAX_MODELS = 500
"""Maximum models per provider in a list."""


class MultimodalResult(msgspec.Struct, frozen=True):
    """Result of `generate_multimodal_response`; null if unknown. `usage` is null if the provider reported none."""

    text: str
    model: str
    provider: str
    finish_reason: str
    usage: Usage | None
    timings: Timings
    seed: int | None
    attachments: list[Attachment]
    warnings: list[str]
    reasoning: str | None = None


class ProviderModel(msgspec.Struct, frozen=True):
    """A model of a provider; null if the provider does not report it."""

    id: str
    modalities: list[str] | None
    context_length: int | None


class ProviderInfo(msgspec.Struct, frozen=True):
    """A provider. `reachable` is null if it was not requested, or if the local model is not loaded."""

    name: str
    configured: bool
    reachable: bool | None
    base_url: str | None
    default_model: str | None
    models: list[ProviderModel]
    total_models: int | None
    error: str | None


class ProviderList(msgspec.Struct, frozen=True):
    """Result of `list_available_providers`."""

    providers: list[ProviderInfo]
    total_count: int


class ListArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `list_available_providers`."""

    provider: Annotated[ProviderName, Meta(description="List only this provider.")] | None = None


def generate_multimodal_response(arguments: GenerateArguments, call: Call, services: Services) -> MultimodalResult:
    """Answers one prompt with a model of a provider; stores nothing."""
    watch = Stopwatch(call)
    sampling = sampling_of(arguments, services.settings.sampling)
    try:
        choice = choose(arguments.provider, arguments.model, call, services)
    except NoSuchChoice as error:
        raise ArgumentError(str(error)) from None
    attachments = read_attachments(arguments.image_urls, arguments.file_paths, call, services, local=choice.local)
    errors, warnings = check_request(choice, attachments, services)
    if errors:
        raise ArgumentError(" ".join(errors))
    require_consent(arguments, choice, attachments, call)
    progress = TextProgress(call, sampling.max_tokens)
    control = control_of(call, progress.on_text if call.wants_progress else None)
    conversation = conversation_of(arguments, choice, attachments, sampling)
    if choice.provider is None:
        with model_in_use(call, services, choice.local) as model:
            watch.load_s = model.load_s
            (completion,) = model.engine.generate([conversation], control)
    else:
        assert choice.listing is not None
        completion = choice.provider.generate(
            choice.model.id,
            choice.listing,
            conversation,
            control,
            media=attachments.media,
            given=given_fields(arguments, choice),
            max_images=services.settings.engine.max_images_per_prompt,
        )
    progress.flush()
    if call.cancellation.is_set():
        raise GenerationCancelled
    call.log("info", f"{completion.completion_tokens} tokens, finish_reason {completion.finish_reason}")
    return MultimodalResult(
        text=completion.text,
        model=choice.model.id,
        provider=choice.name,
        finish_reason=completion.finish_reason,
        usage=_usage(completion),
        timings=watch.timings(completion.first_token_ms),
        seed=arguments.seed,
        attachments=attachments.listed,
        warnings=warnings + _remarks(completion),
        reasoning=completion.reasoning,
    )


def list_available_providers(arguments: ListArguments, call: Call, services: Services) -> ProviderList:
    """All providers with their models, requested now and in parallel."""
    name = arguments.provider
    remote = [provider for provider in services.providers.all if name in (None, provider.name)]
    listings = services.providers.ask(
        [provider for provider in remote if provider.facts.missing is None], call.cancellation, call.deadline_s
    )
    infos = [_local_info(services)] if services.settings.engine.base_url is None and name in (None, LOCAL) else []
    infos += [_remote_info(provider, listings.get(provider.name)) for provider in remote]
    if not infos:
        names = ", ".join(provider_names(services))
        raise ArgumentError(f"arguments.provider: there is no provider {str(name)[:60]!r}; there are {names}.")
    return ProviderList(infos, len(infos))


def _remote_info(provider: Provider, listing: Listing | EngineError | None) -> ProviderInfo:
    """A provider with its models or its error; `listing` is `None` if the provider is not configured."""
    models: tuple[ServedModel, ...] = ()
    total, error = None, None
    if listing is None:
        error = provider.not_configured()
    elif isinstance(listing, EngineError):
        error = str(listing)
        if isinstance(listing, NoListing) and provider.facts.models:
            models = provider.models(provider.without_list(listing))
            total = len(models)
    elif listing.models is None and not provider.facts.models:
        error = "It does not list its models: set model."
    else:
        models = provider.models(listing)
        total = len(models)
    return ProviderInfo(
        name=provider.name,
        configured=listing is not None,
        reachable=None if listing is None else not isinstance(listing, EngineError),
        base_url=provider.url,
        default_model=provider.facts.default_model,
        models=[_provider_model(model) for model in models[:MAX_MODELS]],
        total_models=total,
        error=error,
    )


def _usage(completion: Completion) -> Usage | None:
    """The tokens; 0 prompt tokens mean that the provider reported none."""
    return usage_of([completion]) if completion.prompt_tokens else None


def _remarks(completion: Completion) -> list[str]:
    remarks = list(completion.remarks)
    if not completion.prompt_tokens and completion.finish_reason is not FinishReason.TIMEOUT:
        remarks.append("The provider did not report the number of tokens.")
    if completion.finish_reason is FinishReason.LENGTH and not completion.text:
        remarks.append("max_tokens was reached before any text was generated: a reasoning model needs more.")
    elif not completion.text and completion.finish_reason is FinishReason.STOP:
        remarks.append("The reply is empty.")
    if completion.finish_reason is FinishReason.CONTENT_FILTER:
        remarks.append("The provider's content filter cut off the reply.")
    return remarks


def _local_info(services: Services) -> ProviderInfo:
    models = services.models
    offered = [local_model(services, name) for name in models.names]
    offered += [
        local_model(services, name, lora)
        for name, settings in models.settings.items()
        for lora in settings.lora_modules
    ]
    return ProviderInfo(
        name=LOCAL,
        configured=True,
        reachable=local_reachable(services),
        base_url=None,
        default_model=models.default,
        models=[_provider_model(model) for model in offered],
        total_models=len(offered),
        error=models.engine().status().error,
    )


def _provider_model(model: ServedModel) -> ProviderModel:
    return ProviderModel(model.id, list(model.modalities) if model.modalities else None, model.context_length)
