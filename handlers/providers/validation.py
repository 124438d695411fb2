"""`validate_multimodal_request`: the errors of a request, before anything is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import EngineError, GenerationCancelled, InvalidGeneration
from handlers.chat.sampling import sampling_of
from handlers.providers.attachments import Attachment, Attachments, read_attachments, text_tokens
from handlers.providers.requests import MAX_FILES, GenerateArguments, check_request, conversation_of
from handlers.providers.routing import Choice, NoSuchChoice, choose
from mcp_protocol.tools.toolbox import ArgumentError, validated
from settings import missing_vllm

if TYPE_CHECKING:
    from engine.interface import Sampling
    from handlers.services import Services
    from mcp_protocol.calls.call import Call


SAME = Meta(description="As for generate_multimodal_response.")
Word = Annotated[str, SAME]
Number = Annotated[float, SAME]
Whole = Annotated[int, SAME]
Words = Annotated[tuple[str, ...], SAME]


class ValidateArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The arguments of `generate_multimodal_response` without bounds: a value out of bounds is a reported error."""

    prompt: Word
    model: Word | None = None
    provider: Word | None = None
    system_prompt: Word | None = None
    image_urls: Words = ()
    file_paths: Words = ()
    temperature: Number | None = None
    max_tokens: Whole | None = None
    min_tokens: Whole | None = None
    ignore_eos: Annotated[bool, SAME] | None = None
    top_p: Number | None = None
    top_k: Whole | None = None
    min_p: Number | None = None
    seed: Whole | None = None
    stop: Annotated[str | list[str], SAME] | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    repetition_penalty: Number | None = None
    timeout_s: Number | None = None


class Validation(msgspec.Struct, frozen=True):
    """Result of `validate_multimodal_request`. With `errors` the request would fail, with `warnings` it may succeed.

    `estimated_prompt_tokens` counts one token per four letters, and images by size: the provider's count differs.
    """

    valid: bool
    errors: list[str]
    warnings: list[str]
    provider: str | None
    model: str | None
    modalities: list[str] | None
    context_length: int | None
    attachments: list[Attachment]
    estimated_prompt_tokens: int
    max_tokens: int | None


def validate_multimodal_request(arguments: ValidateArguments, call: Call, services: Services) -> Validation:
    """The errors and warnings of `generate_multimodal_response`, without generating a reply."""
    given = {name: value for name, value in msgspec.to_builtins(arguments).items() if value is not None}
    errors: list[str] = []
    warnings: list[str] = []
    checked, sampling = None, None
    try:
        checked = validated(given, GenerateArguments)
        sampling = sampling_of(checked, services.settings.sampling)
    except ArgumentError as error:
        errors.append(f"{error}.".replace("..", "."))
    choice = None
    try:
        choice = choose(arguments.provider or None, arguments.model or None, call, services)
    except GenerationCancelled:
        raise
    except (NoSuchChoice, EngineError) as error:
        errors.append(str(error))
    image_urls, file_paths = arguments.image_urls[:MAX_FILES], arguments.file_paths[:MAX_FILES]
    local = None if choice is None else choice.local
    attachments = read_attachments(image_urls, file_paths, call, services, local=local)
    if choice is None:
        errors += attachments.errors
    else:
        request_errors, warnings = check_request(choice, attachments, services)
        errors += request_errors
    tokens = text_tokens(arguments.prompt) + text_tokens(arguments.system_prompt or "")
    tokens += sum(each.estimated_tokens or 0 for each in attachments.listed)
    if choice is not None and checked is not None and sampling is not None and not errors:
        errors += _provider_errors(checked, choice, attachments, sampling, services)
    context = choice.model.context_length if choice is not None else None
    if context is not None and tokens + (sampling.max_tokens if sampling is not None else 0) > context:
        warnings.append(
            f"About {tokens} prompt tokens and a reply of up to {sampling.max_tokens if sampling else 0} may exceed "
            f"the model's context of {context} tokens."
        )
    return Validation(
        valid=not errors,
        errors=errors,
        warnings=warnings,
        provider=choice.name if choice is not None else None,
        model=choice.model.id if choice is not None else None,
        modalities=list(choice.model.modalities) if choice is not None and choice.model.modalities else None,
        context_length=context,
        attachments=attachments.listed,
        estimated_prompt_tokens=tokens,
        max_tokens=sampling.max_tokens if sampling is not None else None,
    )


def _provider_errors(
    arguments: GenerateArguments, choice: Choice, attachments: Attachments, sampling: Sampling, services: Services
) -> list[str]:
    """Why the provider would reject the request."""
    if choice.provider is None:
        missing = missing_vllm()
        return [] if missing is None else [missing]
    assert choice.listing is not None
    conversation = conversation_of(arguments, choice, attachments, sampling)
    try:
        choice.provider.check(
            choice.model.id,
            choice.listing,
            conversation,
            attachments.media,
            services.settings.engine.max_images_per_prompt,
        )
    except InvalidGeneration as error:
        return [str(error)]
    return []
