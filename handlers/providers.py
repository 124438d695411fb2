"""Models of any provider, asked by name: OpenAI, DashScope, other services of that API, and the engine here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import EngineError, GenerationCancelled
from engine.interface import Completion, FinishReason
from engine.remote_failures import NoListing
from handlers.attachments import Attachment, read_attachments
from handlers.costs import Stopwatch, Timings, Usage, usage_of
from handlers.model import control_of, load
from handlers.progress import TextProgress
from handlers.provider_choice import NoSuchChoice, choose, local_model, local_reachable, provider_names
from handlers.provider_requests import GenerateArguments, ProviderName, conversation_of, findings_of, given_fields
from handlers.sampling import sampling_of
from mcp_protocol.tools import ArgumentError
from settings.providers import LOCAL

if TYPE_CHECKING:
    from engine.model_server import Listing
    from engine.offers import KnownModel
    from engine.providers import Provider
    from handlers.services import Services
    from mcp_protocol.call import Call

MOST_MODELS = 500
"""Of one provider in a list."""


class MultimodalResult(msgspec.Struct, frozen=True):
    """Result of `generate_multimodal_response`; null where it is not known. `usage` is null where none was told."""

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
    """A model of a provider; null where the provider does not tell."""

    id: str
    modalities: list[str] | None
    context_length: int | None


class ProviderInfo(msgspec.Struct, frozen=True):
    """A provider. `reachable` is null where it was not asked, or nothing was loaded that could tell."""

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

    provider: Annotated[ProviderName, Meta(description="Only this one.")] | None = None


def generate_multimodal_response(arguments: GenerateArguments, call: Call, services: Services) -> MultimodalResult:
    """Answers one prompt with a model of a provider; nothing is remembered."""
    watch = Stopwatch(call)
    sampling = sampling_of(arguments, services.settings.sampling)
    try:
        choice = choose(arguments.provider, arguments.model, call, services)
    except NoSuchChoice as error:
        raise ArgumentError(str(error)) from None
    attached = read_attachments(arguments.image_urls, arguments.file_paths, call, services)
    errors, warnings = findings_of(choice, attached, services)
    if errors:
        raise ArgumentError(" ".join(errors))
    progress = TextProgress(call, sampling.max_tokens)
    control = control_of(call, progress.on_text if call.wants_progress else None)
    conversation = conversation_of(arguments, choice, attached, sampling)
    max_images = services.settings.engine.max_images_per_prompt
    if choice.provider is None:
        watch.load_s = load(call, services)
        (completion,) = services.engine.generate([conversation], control)
    else:
        assert choice.listing is not None
        completion = choice.provider.generate(
            choice.model.id,
            choice.listing,
            conversation,
            control,
            media=attached.media,
            given=given_fields(arguments, choice),
            max_images=max_images,
        )
    progress.flush()
    if call.cancelled():
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
        attachments=attached.listed,
        warnings=warnings + _remarks(completion),
        reasoning=completion.reasoning,
    )


def list_available_providers(arguments: ListArguments, call: Call, services: Services) -> ProviderList:
    """All providers with their models, asked now and side by side."""
    wanted = arguments.provider
    remote = [provider for provider in services.providers.all if wanted in (None, provider.name)]
    told = services.providers.ask(
        [provider for provider in remote if provider.facts.missing is None], call.cancelled, call.deadline_s
    )
    found = [_local_info(services)] if services.settings.engine.base_url is None and wanted in (None, LOCAL) else []
    found += [_remote_info(provider, told.get(provider.name)) for provider in remote]
    if not found:
        names = ", ".join(provider_names(services))
        raise ArgumentError(f"arguments.provider: there is no provider {str(wanted)[:60]!r}; there are {names}.")
    return ProviderList(found, len(found))


def _remote_info(provider: Provider, told: Listing | EngineError | None) -> ProviderInfo:
    """A provider with what it told of its models, why it did not, or `None` where it could not be asked."""
    models: tuple[KnownModel, ...] = ()
    total, problem = None, None
    if told is None:
        problem = provider.not_configured()
    elif isinstance(told, EngineError):
        problem = str(told)
        if isinstance(told, NoListing) and provider.facts.models:
            models = provider.models(provider.without_list(told))
            total = len(models)
    elif told.models is None and not provider.facts.models:
        problem = "It does not tell its models: name one."
    else:
        models = provider.models(told)
        total = len(models)
    return ProviderInfo(
        name=provider.name,
        configured=told is not None,
        reachable=None if told is None else not isinstance(told, EngineError),
        base_url=provider.url,
        default_model=provider.facts.default_model,
        models=[_shown_model(model) for model in models[:MOST_MODELS]],
        total_models=total,
        error=problem,
    )


def _usage(completion: Completion) -> Usage | None:
    """The tokens; no prompt has none, so then nobody counted."""
    return usage_of([completion]) if completion.prompt_tokens else None


def _remarks(completion: Completion) -> list[str]:
    remarks = list(completion.remarks)
    if not completion.prompt_tokens and completion.finish_reason is not FinishReason.TIMEOUT:
        remarks.append("The provider did not tell how many tokens it counted.")
    if completion.finish_reason is FinishReason.LENGTH and not completion.text:
        remarks.append("max_tokens ended the answer before any text of it came: a model that reasons needs more.")
    elif not completion.text and completion.finish_reason is FinishReason.STOP:
        remarks.append("The answer is empty.")
    if completion.finish_reason is FinishReason.CONTENT_FILTER:
        remarks.append("The provider's content filter cut the answer off.")
    return remarks


def _local_info(services: Services) -> ProviderInfo:
    model = local_model(services)
    status = services.engine.status()
    adapters = [_shown_model(local_model(services, name)) for name in services.settings.engine.lora_modules]
    return ProviderInfo(
        name=LOCAL,
        configured=True,
        reachable=local_reachable(services),
        base_url=None,
        default_model=model.id,
        models=[_shown_model(model), *adapters],
        total_models=1 + len(adapters),
        error=status.error,
    )


def _shown_model(model: KnownModel) -> ProviderModel:
    return ProviderModel(model.id, list(model.modalities) if model.modalities else None, model.context_length)
