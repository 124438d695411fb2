"""Vision: relevance checks and analyses of images, and the state of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import GenerationCancelled, GenerationFailed
from engine.interface import Conversation, EngineState, FinishReason, ImagePart, Sampling
from handlers.chat.chat import ChatResult
from handlers.chat.sampling import MAX_SEED
from handlers.image_reading import call_images
from handlers.model.model import ModelArguments, ModelName, control_of, model_in_use
from handlers.model.states import ModelState, model_states
from handlers.progress import TextProgress
from handlers.usage import Stopwatch, Timings, Usage, usage_of
from handlers.vision.analysis import NOT_CHECKED, Analysis, Item, Items, relevance_check
from handlers.vision.prompts import analysis_prompt
from handlers.yes_no import UNDECIDED, probability_of
from mcp_protocol.tools.toolbox import MAX_TIMEOUT_S, ArgumentError

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from settings import SamplingSettings

MAX_IMAGES = 64

ImageReference = Annotated[str, Meta(min_length=1, description="Absolute path, or file:, data: or http(s) URL.")]
Query = Annotated[str, Meta(min_length=1, max_length=20_000, description="A question, or what to look for.")]
ImageMetadata = Annotated[str | dict[str, Any], Meta(description="Context, e.g. where it was taken.")]
Threshold = Annotated[float, Meta(ge=0, le=1, description="Lowest probability of a relevant image.")]
Timeout = Annotated[
    float, Meta(gt=0, le=MAX_TIMEOUT_S, description="Seconds after which the results so far are returned.")
]


class VisionSampling(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The model, and how the analyses are sampled."""

    model: ModelName | None = None
    max_tokens: Annotated[int, Meta(ge=1, description="Longest text per image, in tokens.")] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2, description="0: the same image gives the same text.")] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Nucleus sampling.")] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED, description="For temperatures above 0.")] | None = None
    timeout_s: Timeout | None = None


class AnalyzeImagesArguments(VisionSampling, kw_only=True, frozen=True):
    """Arguments of `analyze_images_with_query`."""

    image_paths: Annotated[
        list[Annotated[str, Meta(min_length=1)]],
        Meta(min_length=1, max_length=MAX_IMAGES, description="Absolute paths, or file:, data: or http(s) URLs."),
    ]
    query: Query
    check_relevance: Annotated[bool, Meta(description="false: analyse all images.")] = True
    metadata: (
        Annotated[
            list[str | dict[str, Any] | None],
            Meta(max_length=MAX_IMAGES, description="Context of each image, in order; empty text for none."),
        ]
        | None
    ) = None
    threshold: Threshold = 0.5
    overall_answer: Annotated[
        bool | None,
        Meta(
            description="Also answer the query over all images together. Default: true, unless check_relevance is "
            "false and one prompt cannot hold them."
        ),
    ] = None


class RelevanceArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `check_image_relevance`."""

    image_path: ImageReference
    query: Query
    metadata: ImageMetadata | None = None
    threshold: Threshold = 0.5
    model: ModelName | None = None
    timeout_s: Timeout | None = None


class AnalyzeImageArguments(VisionSampling, kw_only=True, frozen=True):
    """Arguments of `analyze_single_image`."""

    image_path: ImageReference
    query: Query
    metadata: ImageMetadata | None = None


class ImageResult(msgspec.Struct, frozen=True):
    """The result for one image; null if not requested or not available (see `error`)."""

    index: int
    image: str
    relevant: bool | None
    probability: float | None
    analysis: str | None
    finish_reason: str | None
    error: str | None


class AnalyzeImagesResult(msgspec.Struct, frozen=True):
    """Result of `analyze_images_with_query`: one entry per image in the given order, and the overall answer.

    `error` says why the overall answer is missing or incomplete; `relevant_count` is null without a relevance check.
    """

    results: list[ImageResult]
    answer: str | None
    relevant_count: int | None
    model: str
    error: str | None
    usage: Usage
    timings: Timings


class RelevanceResult(msgspec.Struct, frozen=True):
    """Result of `check_image_relevance`; `probability` is P(yes) / (P(yes) + P(no))."""

    relevant: bool
    probability: float
    threshold: float
    image: str
    model: str
    usage: Usage
    timings: Timings


class ModelStatus(msgspec.Struct, frozen=True):
    """Result of `get_model_status`.

    `status` is loaded, unloaded, loading, offloaded or failed; `memory_used_bytes` is the resident memory of the
    server's processes; `active_references` is the number of sessions; `models` are all models, if there are several.
    """

    status: str
    loaded: bool
    model_name: str
    device: str | None
    memory_used_bytes: int | None
    gpu_memory_used_bytes: int | None
    active_references: int
    supports_images: bool | None
    max_images_per_prompt: int
    dtype: str | None
    max_model_len: int | None
    load_s: float | None
    error: str | None
    models: list[ModelState] | msgspec.UnsetType = msgspec.UNSET


def analyze_images_with_query(arguments: AnalyzeImagesArguments, call: Call, services: Services) -> AnalyzeImagesResult:
    """Checks all images in one engine batch, analyses the relevant ones in another, and answers the query over them."""
    watch = Stopwatch(call)
    query = checked_query(arguments.query)
    metadata = arguments.metadata or [None] * len(arguments.image_paths)
    if len(metadata) != len(arguments.image_paths):
        raise ArgumentError(
            f"arguments.metadata: {len(metadata)} entries for {len(arguments.image_paths)} images; give one entry per "
            "image, null for none."
        )
    engine = services.models.engine(arguments.model)
    max_together = services.models.settings_of(arguments.model).max_images_per_prompt
    with call_images(call, services).parallel_parts(arguments.image_paths) as images:
        items = Items(images, metadata)
        analysis = Analysis(
            items, query, sampling_of(arguments, services.settings.sampling), call, engine, max_together
        )
        if items.any_readable():
            with model_in_use(call, services, arguments.model) as model:
                watch.load_s = model.load_s
                if arguments.check_relevance:
                    analysis.check(arguments.threshold)
                analysis.analyse(with_answer=arguments.overall_answer)
    if call.cancellation.is_set():
        raise GenerationCancelled
    return AnalyzeImagesResult(
        results=[_image_result(index, arguments.image_paths[index], item) for index, item in enumerate(items.entries)],
        answer=analysis.answer,
        relevant_count=sum(item.relevant is True for item in items.readable) if arguments.check_relevance else None,
        model=engine.status().model_name,
        error=analysis.error,
        usage=usage_of(analysis.completions),
        timings=watch.timings(analysis.first_token_ms),
    )


def check_image_relevance(arguments: RelevanceArguments, call: Call, services: Services) -> RelevanceResult:
    """Asks the model whether one image is relevant to a query, and returns the probability of yes."""
    watch = Stopwatch(call)
    query = checked_query(arguments.query)
    services.models.name_of(arguments.model)  # unknown: nothing is read
    image = _image(arguments.image_path, call, services)
    check = relevance_check(image, query, arguments.metadata)
    with model_in_use(call, services, arguments.model) as model:
        watch.load_s = model.load_s
        (completion,) = model.engine.generate([check], control_of(call, None))
    probability = probability_of(completion)
    if probability is None:
        raise GenerationFailed(NOT_CHECKED if completion.finish_reason is FinishReason.TIMEOUT else UNDECIDED)
    return RelevanceResult(
        relevant=probability >= arguments.threshold,
        probability=probability,
        threshold=arguments.threshold,
        image=short_reference(arguments.image_path),
        model=model.engine.status().model_name,
        usage=usage_of([completion]),
        timings=watch.timings(completion.first_token_ms),
    )


def analyze_single_image(arguments: AnalyzeImageArguments, call: Call, services: Services) -> ChatResult:
    """Answers a query about one image, like a chat with one message."""
    watch = Stopwatch(call)
    query = checked_query(arguments.query)
    services.models.name_of(arguments.model)  # unknown: nothing is read
    image = _image(arguments.image_path, call, services)
    messages = analysis_prompt(image, query, arguments.metadata)
    sampling = sampling_of(arguments, services.settings.sampling)
    with model_in_use(call, services, arguments.model) as model:
        watch.load_s = model.load_s
        progress = TextProgress(call, sampling.max_tokens)
        control = control_of(call, progress.on_text if call.wants_progress else None)
        (completion,) = model.engine.generate([Conversation(messages, sampling)], control)
    progress.flush()
    return ChatResult(
        text=completion.text,
        finish_reason=completion.finish_reason,
        usage=usage_of([completion]),
        model=model.engine.status().model_name,
        session_id=None,
        session_messages=None,
        truncated_messages=0,
        seed=arguments.seed,
        timings=watch.timings(completion.first_token_ms),
        reasoning=completion.reasoning,
    )


def get_model_status(arguments: ModelArguments, call: Call, services: Services) -> ModelStatus:
    """The state of the model and its memory use; loads nothing."""
    status, use = services.models.engine(arguments.model).status(), services.memory_use()
    return ModelStatus(
        status="loaded" if status.state is EngineState.READY else status.state,
        loaded=status.state is EngineState.READY,
        model_name=status.model_name,
        device=status.device,
        memory_used_bytes=use.process_bytes,
        gpu_memory_used_bytes=use.gpu_bytes,
        active_references=len(services.sessions),
        supports_images=status.supports_images,
        max_images_per_prompt=services.models.settings_of(arguments.model).max_images_per_prompt,
        dtype=status.dtype,
        max_model_len=status.max_model_len,
        load_s=status.load_s,
        error=status.error,
        models=model_states(services),
    )


MAX_REFERENCE_CHARACTERS = 1_000


def short_reference(reference: str) -> str:
    """An image's reference as results repeat it: without the data of a data URL, and cut off if very long."""
    if reference[:5].casefold() == "data:":
        return f"{reference.partition(',')[0][:100]},…"
    return reference if len(reference) <= MAX_REFERENCE_CHARACTERS else reference[:MAX_REFERENCE_CHARACTERS] + "…"


def checked_query(query: str) -> str:
    """The query; raises `ArgumentError` for a blank one."""
    if not query.strip():
        raise ArgumentError("arguments.query: it is blank; expected a question or a search term.")
    return query


def _image(reference: str, call: Call, services: Services) -> ImagePart:
    image = call_images(call, services).single_part(reference)
    if isinstance(image, str):
        raise ArgumentError(f"arguments.image_path: {image}")
    return image


def sampling_of(arguments: VisionSampling, defaults: SamplingSettings) -> Sampling:
    """How to sample the texts of a call."""
    return Sampling(
        temperature=arguments.temperature,
        max_tokens=arguments.max_tokens if arguments.max_tokens is not None else defaults.max_tokens,
        top_p=arguments.top_p if arguments.top_p is not None else defaults.top_p,
        top_k=defaults.top_k,
        seed=arguments.seed,
    )


def _image_result(index: int, reference: str, item: Item | str) -> ImageResult:
    if isinstance(item, str):
        return ImageResult(index, short_reference(reference), None, None, None, None, item)
    return ImageResult(
        index=index,
        image=short_reference(reference),
        relevant=item.relevant,
        probability=item.probability,
        analysis=item.analysis,
        finish_reason=item.finish_reason,
        error=item.error,
    )
