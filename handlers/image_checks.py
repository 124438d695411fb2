"""Asks the chat model how likely images show a prompt: the whole prompt and its parts, of all images in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.errors import GenerationCancelled
from engine.interface import Completion, Control, ImagePart, Message, TextPart
from handlers.errors import error_text
from handlers.yes_no import UNDECIDED, probability_of, yes_no_question
from media.errors import MediaError
from omni.images.checks import Judgement, PartCheck
from omni.images.prompt_parts import parts_of

if TYPE_CHECKING:
    from engine.interface import Conversation, OnPhase
    from handlers.services import Services
    from sandbox.cancellation import Cancellation


class Checks(msgspec.Struct, frozen=True):
    """What was found about images, in their order.

    Attributes:
        judgements: of each image, `None` where there is none.
        model: the name of the model that was asked.
        problem: why an image has no judgement, the first cause of several.
    """

    judgements: list[Judgement | None]
    model: str
    problem: str | None


def check_images(
    files: Sequence[bytes], prompt: str, services: Services, cancellation: Cancellation, on_phase: OnPhase
) -> Checks:
    """Asks the default model about images. Whatever prevents the answers is a `problem`: the images are kept.

    Arguments:
        files: the images, as image files.
        prompt: what they are to show.
        services: have the model.
        cancellation: ends the work.
        on_phase: called with the phases of a load.

    Raises: `GenerationCancelled`.
    """
    model = services.models.engine().status().model_name
    try:
        return _asked(files, prompt, services, cancellation, on_phase)
    except Exception as error:
        if isinstance(error, GenerationCancelled) and cancellation.is_set():
            raise
        return Checks([None] * len(files), model, error_text(error))


def _asked(
    files: Sequence[bytes], prompt: str, services: Services, cancellation: Cancellation, on_phase: OnPhase
) -> Checks:
    texts = [prompt, *parts_of(prompt)]
    images = [_image(file, services) for file in files]
    readable = [image for image in images if isinstance(image, ImagePart)]
    completions: list[Completion] = []
    model = services.models.engine().status().model_name
    if readable:
        questions = [_question(image, text) for image in readable for text in texts]
        with services.models.in_use(None, on_phase, cancellation) as used:
            model = used.engine.status().model_name
            on_phase(f"checking {len(files)} images" if len(files) > 1 else "checking the image")
            completions = used.engine.generate(questions, Control(cancellation=cancellation))
    answers = iter(completions)
    judgements: list[Judgement | None] = []
    problems: list[str] = []
    for image in images:
        found: Judgement | str
        found = image if isinstance(image, str) else _judgement(texts, [next(answers) for _ in texts])
        if isinstance(found, str):
            problems.append(found)
        judgements.append(None if isinstance(found, str) else found)
    return Checks(judgements, model, problems[0] if problems else None)


def _image(file: bytes, services: Services) -> ImagePart | str:
    try:
        image = services.images.read_bytes(file)
    except MediaError as error:
        return str(error)
    return ImagePart(image.image, image.digest)


def _question(image: ImagePart, text: str) -> Conversation:
    """Asks whether an image shows what a text says."""
    quote = '"' if "'" in text else "'"
    return yes_no_question(
        (Message("user", (image, TextPart(f"Does this image show {quote}{text.strip()}{quote}? Answer yes or no."))),)
    )


def _judgement(texts: Sequence[str], completions: Sequence[Completion]) -> Judgement | str:
    """The judgement from the answers to all questions about an image, or why there is none."""
    probabilities = []
    for completion in completions:
        probability = probability_of(completion)
        if probability is None:
            return completion.error or UNDECIDED
        probabilities.append(probability)
    parts = [PartCheck(text, each) for text, each in zip(texts[1:], probabilities[1:], strict=True)]
    return Judgement(probabilities[0], parts)
