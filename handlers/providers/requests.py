"""The arguments of `generate_multimodal_response`, their checks, and the engine's request made from them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from engine.interface import Conversation, Message, TextPart
from engine.parts import too_many
from handlers.chat.sampling import SamplingArguments

if TYPE_CHECKING:
    from engine.interface import Sampling
    from handlers.providers.attachments import Attachments
    from handlers.providers.routing import Choice
    from handlers.services import Services

MAX_FILES = 64
UNKNOWN_MODALITIES = "the provider does not report the model's modalities, so it may not accept {}"

Prompt = Annotated[str, Meta(min_length=1, description="The question, or what to do with the images and files.")]
ModelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="Its name at the provider; default: the provider's default model.",
    ),
]
ProviderName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="As list_available_providers names it; default: the one that has the model, without a model "
        "the local engine.",
    ),
]
ImageUrls = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...],
    Meta(max_length=MAX_FILES, description="Absolute paths, or file:, data: or http(s) URLs."),
]
FilePaths = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...],
    Meta(
        max_length=MAX_FILES,
        description="Absolute paths of images, of text files, and of audio and video if the model accepts them.",
    ),
]
SystemPrompt = Annotated[str, Meta(min_length=1, description="Instructions that go before the prompt.")]


class GenerateArguments(SamplingArguments, kw_only=True, frozen=True):
    """Arguments of `generate_multimodal_response`."""

    prompt: Prompt
    model: ModelName | None = None
    provider: ProviderName | None = None
    system_prompt: SystemPrompt | None = None
    image_urls: ImageUrls = ()
    file_paths: FilePaths = ()


def check_request(choice: Choice, attachments: Attachments, services: Services) -> tuple[list[str], list[str]]:
    """Errors and warnings about the attachments, and about whether the model accepts them."""
    errors, warnings = list(attachments.errors), []
    of = services.settings.engine if choice.local is None else services.models.settings_of(choice.local)
    max_images = of.max_images_per_prompt
    for_engine = {part.kind for part in attachments.parts}
    if len(attachments.images) > max_images:
        errors.append(
            f"There are {len(attachments.images)} images; one prompt holds at most {max_images} "
            "(VLLM_MAX_IMAGES_PER_PROMPT)."
        )
    if count := too_many(attachments.parts, max_images):
        errors.append(f"There are {count}; one prompt holds at most {max_images} (VLLM_MAX_IMAGES_PER_PROMPT).")
    for kind in attachments.kinds:
        takes = choice.takes(kind)
        if choice.provider is None and kind in ("audio", "video") and kind not in for_engine:
            errors.append(f"The engine of this server accepts text and images, no {kind}; another provider may.")
        elif takes is False:
            errors.append(f"The model {choice.model.id} of {choice.name} accepts no {kind}. Choose another model.")
        elif takes is None and choice.provider is not None:
            warnings.append(f"{choice.model.id} of {choice.name}: {UNKNOWN_MODALITIES.format(kind)}.")
    problem = choice.listing.problem if choice.listing is not None else None
    if problem is not None:
        warnings.append(
            f"{choice.name} did not list its models, so nothing is known about {choice.model.id}: {problem}"
        )
    if choice.also:
        warnings.append(
            f"{choice.model.id} is also available at {', '.join(choice.also)}; {choice.name} is used "
            "unless provider is set."
        )
    return errors, warnings


def conversation_of(
    arguments: GenerateArguments, choice: Choice, attachments: Attachments, sampling: Sampling
) -> Conversation:
    """The engine's request."""
    system = (Message("system", (TextPart(arguments.system_prompt),)),) if arguments.system_prompt else ()
    text = TextPart(attachments.prompt(arguments.prompt))
    if not choice.is_vllm:  # these values mean "not sent": the service uses its own defaults
        sampling = dataclasses.replace(
            sampling, temperature=1.0, top_p=1.0, top_k=arguments.top_k if arguments.top_k is not None else -1
        )
    return Conversation(
        (*system, Message("user", (text, *attachments.images, *attachments.parts))), sampling, lora=choice.lora
    )


def given_fields(arguments: GenerateArguments, choice: Choice) -> dict[str, Any]:
    """The sampling options that the caller set, even if to the default value."""
    if choice.is_vllm:
        return {}
    named = {"temperature": arguments.temperature, "top_p": arguments.top_p}
    return {name: value for name, value in named.items() if value is not None}
