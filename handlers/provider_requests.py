"""What `generate_multimodal_response` is asked, what is wrong with that, and the engine's request made of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from engine.interface import Conversation, Message, TextPart
from handlers.sampling import SamplingArguments

if TYPE_CHECKING:
    from engine.interface import Sampling
    from handlers.attachments import Attachments
    from handlers.provider_choice import Choice
    from handlers.services import Services

MOST_FILES = 64
UNKNOWN_MODALITIES = "what the model takes is not told, so whether it takes {} only the answer shows"

Prompt = Annotated[str, Meta(min_length=1, description="What to ask, or what to do with the pictures and files.")]
ModelName = Annotated[
    str,
    Meta(min_length=1, max_length=256, description="The model's name at its provider; left out: the provider's own."),
]
ProviderName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="Whom to ask, a name from list_available_providers; left out: whoever has the model, or without a "
        "model this server's own.",
    ),
]
ImageUrls = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...],
    Meta(max_length=MOST_FILES, description="Pictures by http(s), data: or file: URL, or by absolute path."),
]
FilePaths = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...],
    Meta(
        max_length=MOST_FILES,
        description="Files on this machine by absolute path: pictures, audio and video where the model takes them, and "
        "text files from the folders that the server's settings allow.",
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


def findings_of(choice: Choice, attached: Attachments, services: Services) -> tuple[list[str], list[str]]:
    """Errors and warnings about what goes with the prompt and whether the model takes it."""
    errors, warnings = list(attached.problems), []
    max_images = services.settings.engine.max_images_per_prompt
    if len(attached.pictures) > max_images:
        errors.append(
            f"There are {len(attached.pictures)} pictures; one prompt holds at most {max_images} "
            "(VLLM_MAX_IMAGES_PER_PROMPT)."
        )
    for kind in attached.kinds:
        takes = choice.takes(kind)
        if choice.provider is None and kind in ("audio", "video"):
            errors.append(f"The engine of this server takes text and pictures, no {kind}; another provider may.")
        elif takes is False:
            errors.append(f"The model {choice.model.id} of {choice.name} takes no {kind}. Choose another model.")
        elif takes is None and choice.provider is not None:
            warnings.append(f"{choice.model.id} of {choice.name}: {UNKNOWN_MODALITIES.format(kind)}.")
    problem = choice.listing.problem if choice.listing is not None else None
    if problem is not None:
        warnings.append(f"{choice.name} did not tell its models, so nothing is known of {choice.model.id}: {problem}")
    if choice.also:
        warnings.append(
            f"{choice.model.id} is also at {', '.join(choice.also)}; {choice.name} comes first. provider chooses."
        )
    return errors, warnings


def conversation_of(
    arguments: GenerateArguments, choice: Choice, attached: Attachments, sampling: Sampling
) -> Conversation:
    """What the model is asked."""
    system = (Message("system", (TextPart(arguments.system_prompt),)),) if arguments.system_prompt else ()
    text = TextPart(attached.prompt(arguments.prompt))
    if not choice.is_vllm:  # what was not asked for is the service's own; these stand for "not sent"
        sampling = dataclasses.replace(
            sampling, temperature=1.0, top_p=1.0, top_k=arguments.top_k if arguments.top_k is not None else -1
        )
    return Conversation((*system, Message("user", (text, *attached.pictures))), sampling, lora=choice.lora)


def given_fields(arguments: GenerateArguments, choice: Choice) -> dict[str, Any]:
    """What the caller asked for in so many words, also where it is the usual value."""
    if choice.is_vllm:
        return {}
    named = {"temperature": arguments.temperature, "top_p": arguments.top_p}
    return {name: value for name, value in named.items() if value is not None}
