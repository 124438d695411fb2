"""`validate_multimodal_request`: what is wrong with a request, before anything is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import EngineError, GenerationCancelled, InvalidGeneration
from handlers.attachments import Attachment, Attachments, read_attachments, text_tokens
from handlers.provider_choice import Choice, NoSuchChoice, choose
from handlers.provider_requests import MOST_FILES, GenerateArguments, conversation_of, findings_of
from handlers.sampling import sampling_of
from mcp_protocol.tools import ArgumentError, validated

if TYPE_CHECKING:
    from engine.interface import Sampling
    from handlers.services import Services
    from mcp_protocol.call import Call


SAME = Meta(description="As for generate_multimodal_response.")
Word = Annotated[str, SAME]
Number = Annotated[float, SAME]
Whole = Annotated[int, SAME]
Words = Annotated[tuple[str, ...], SAME]


class ValidateArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The arguments of `generate_multimodal_response` without their bounds: what is out of bounds is a finding."""

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
    """Result of `validate_multimodal_request`. `errors` are why it would fail; with `warnings` it may succeed.

    `estimated_prompt_tokens` counts four letters a token and a picture by its size: the provider's count differs.
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
    """What `generate_multimodal_response` would find wrong, without asking any model for an answer."""
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
    image_urls, file_paths = arguments.image_urls[:MOST_FILES], arguments.file_paths[:MOST_FILES]
    attached = read_attachments(image_urls, file_paths, call, services)
    if choice is None:
        errors += attached.problems
    else:
        found, warnings = findings_of(choice, attached, services)
        errors += found
    tokens = text_tokens(arguments.prompt) + text_tokens(arguments.system_prompt or "")
    tokens += sum(each.estimated_tokens or 0 for each in attached.listed)
    if choice is not None and checked is not None and sampling is not None and not errors:
        errors += _refusal(checked, choice, attached, sampling, services)
    context = choice.model.context_length if choice is not None else None
    if context is not None and tokens + (sampling.max_tokens if sampling is not None else 0) > context:
        warnings.append(
            f"About {tokens} tokens and an answer of up to {sampling.max_tokens if sampling else 0} may be more than "
            f"the {context} that the model's context holds."
        )
    return Validation(
        valid=not errors,
        errors=errors,
        warnings=warnings,
        provider=choice.name if choice is not None else None,
        model=choice.model.id if choice is not None else None,
        modalities=list(choice.model.modalities) if choice is not None and choice.model.modalities else None,
        context_length=context,
        attachments=attached.listed,
        estimated_prompt_tokens=tokens,
        max_tokens=sampling.max_tokens if sampling is not None else None,
    )


def _refusal(
    arguments: GenerateArguments, choice: Choice, attached: Attachments, sampling: Sampling, services: Services
) -> list[str]:
    """Why the request cannot be made as it is."""
    if choice.provider is None:
        return []
    assert choice.listing is not None
    conversation = conversation_of(arguments, choice, attached, sampling)
    try:
        choice.provider.check(
            choice.model.id,
            choice.listing,
            conversation,
            attached.media,
            services.settings.engine.max_images_per_prompt,
        )
    except InvalidGeneration as error:
        return [str(error)]
    return []
