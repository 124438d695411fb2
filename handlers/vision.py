"""Vision: pictures checked against a query and analysed, many at once or one alone, and the state of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import GenerationCancelled, GenerationFailed
from engine.interface import Conversation, EngineState, FinishReason, ImagePart, Sampling
from handlers.analysis import NOT_CHECKED, UNDECIDED, Analysis, Item, Items, probability_of, relevance_check
from handlers.chat import ChatResult
from handlers.costs import Stopwatch, Timings, Usage, usage_of
from handlers.held_images import images_of
from handlers.model import NoArguments, control_of, load
from handlers.pictures import pictures_of, read_picture
from handlers.progress import TextProgress
from handlers.sampling import MAX_SEED
from handlers.vision_prompts import analysis_prompt
from mcp_protocol.tools import MAX_TIMEOUT_S, ArgumentError

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call
    from settings import SamplingSettings

MAX_IMAGES = 64

ImageReference = Annotated[
    str, Meta(min_length=1, description="A picture: absolute path, or file:, data: (base64) or http(s) URL.")
]
Query = Annotated[
    str, Meta(min_length=1, max_length=20_000, description="A question about the picture, or what to look for.")
]
Known = Annotated[str | dict[str, Any], Meta(description="What is known of the picture, e.g. where it was taken.")]
Threshold = Annotated[float, Meta(ge=0, le=1, description="Least probability of yes that makes a picture relevant.")]
Timeout = Annotated[
    float, Meta(gt=0, le=MAX_TIMEOUT_S, description="Answer with what is done after this many seconds.")
]


class VisionSampling(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How the analyses are sampled."""

    max_tokens: Annotated[int, Meta(ge=1, description="Longest text for each picture, in tokens.")] | None = None
    temperature: Annotated[
        float, Meta(ge=0, le=2, description="0, the default: the same picture gives the same text.")
    ] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1, description="Nucleus sampling.")] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED, description="For temperatures above 0.")] | None = None
    timeout_s: Timeout | None = None


class AnalyzeImagesArguments(VisionSampling, kw_only=True, frozen=True):
    """Arguments of `analyze_images_with_query`."""

    image_paths: Annotated[
        list[ImageReference],
        Meta(min_length=1, max_length=MAX_IMAGES, description="Pictures, in any mixture of forms."),
    ]
    query: Query
    check_relevance: Annotated[
        bool, Meta(description="Analyse only pictures that are relevant to the query; false: all of them.")
    ] = True
    metadata: (
        Annotated[
            list[Known | None],
            Meta(
                max_length=MAX_IMAGES,
                description="For each picture what is known of it, an empty text for nothing; in their order.",
            ),
        ]
        | None
    ) = None
    threshold: Threshold = 0.5
    overall_answer: (
        Annotated[
            bool,
            Meta(
                description="Also answer over all relevant pictures together. Left out: yes, except for more pictures "
                "than one prompt holds when check_relevance is false."
            ),
        ]
        | None
    ) = None


class RelevanceArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `check_image_relevance`."""

    image_path: ImageReference
    query: Query
    metadata: Known | None = None
    threshold: Threshold = 0.5
    timeout_s: Timeout | None = None


class AnalyzeImageArguments(VisionSampling, kw_only=True, frozen=True):
    """Arguments of `analyze_single_image`."""

    image_path: ImageReference
    query: Query
    metadata: Known | None = None


class ImageResult(msgspec.Struct, frozen=True):
    """What was found about one picture; null where it was not asked for, or could not be found out (`error`)."""

    index: int
    image: str
    relevant: bool | None
    probability: float | None
    analysis: str | None
    finish_reason: str | None
    error: str | None


class AnalyzeImagesResult(msgspec.Struct, frozen=True):
    """Result of `analyze_images_with_query`: one entry per picture in their order, and the answer over all of them.

    `error` says why there is no answer, or not all of it; `relevant_count` is null when relevance was not asked for.
    """

    results: list[ImageResult]
    answer: str | None
    relevant_count: int | None
    model: str
    error: str | None
    usage: Usage
    timings: Timings


class RelevanceResult(msgspec.Struct, frozen=True):
    """Result of `check_image_relevance`; `probability` is that of yes against no."""

    relevant: bool
    probability: float
    threshold: float
    image: str
    model: str
    usage: Usage
    timings: Timings


class ModelStatus(msgspec.Struct, frozen=True):
    """Result of `get_model_status`.

    `status` is loaded, unloaded, loading, offloaded or failed; `memory_used_bytes` what the server's process has in
    this machine's memory; `active_references` the remembered conversations that would go on with this model.
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


def analyze_images_with_query(arguments: AnalyzeImagesArguments, call: Call, services: Services) -> AnalyzeImagesResult:
    """Checks all pictures in one engine batch, analyses the relevant ones in another, and answers over them."""
    watch = Stopwatch(call)
    query = _query(arguments.query)
    metadata = arguments.metadata or [None] * len(arguments.image_paths)
    if len(metadata) != len(arguments.image_paths):
        raise ArgumentError(
            f"arguments.metadata: {len(metadata)} entries for {len(arguments.image_paths)} pictures; give one for each "
            "picture, null where nothing is known."
        )
    with pictures_of(arguments.image_paths, images_of(call, services), call) as pictures:
        items = Items(pictures, metadata)
        analysis = Analysis(items, query, _sampling(arguments, services.settings.sampling), call, services)
        if items.any_readable():
            watch.load_s = load(call, services)
            if arguments.check_relevance:
                analysis.check(arguments.threshold)
            analysis.analyse(with_answer=arguments.overall_answer)
    if call.cancelled():
        raise GenerationCancelled
    return AnalyzeImagesResult(
        results=[_image_result(index, arguments.image_paths[index], item) for index, item in enumerate(items.entries)],
        answer=analysis.answer,
        relevant_count=sum(item.relevant is True for item in items.taken) if arguments.check_relevance else None,
        model=services.engine.status().model_name,
        error=analysis.error,
        usage=usage_of(analysis.completions),
        timings=watch.timings(analysis.first_token_ms),
    )


def check_image_relevance(arguments: RelevanceArguments, call: Call, services: Services) -> RelevanceResult:
    """How likely the model answers yes to the question whether one picture is relevant to a query."""
    watch = Stopwatch(call)
    query = _query(arguments.query)
    image = _picture(arguments.image_path, call, services)
    watch.load_s = load(call, services)
    check = relevance_check(image, query, arguments.metadata)
    (completion,) = services.engine.generate([check], control_of(call, None))
    probability = probability_of(completion)
    if probability is None:
        raise GenerationFailed(NOT_CHECKED if completion.finish_reason is FinishReason.TIMEOUT else UNDECIDED)
    return RelevanceResult(
        relevant=probability >= arguments.threshold,
        probability=probability,
        threshold=arguments.threshold,
        image=shown_reference(arguments.image_path),
        model=services.engine.status().model_name,
        usage=usage_of([completion]),
        timings=watch.timings(completion.first_token_ms),
    )


def analyze_single_image(arguments: AnalyzeImageArguments, call: Call, services: Services) -> ChatResult:
    """Answers a query about one picture, like a chat with one message."""
    watch = Stopwatch(call)
    query = _query(arguments.query)
    image = _picture(arguments.image_path, call, services)
    messages = analysis_prompt(image, query, arguments.metadata)
    sampling = _sampling(arguments, services.settings.sampling)
    watch.load_s = load(call, services)
    progress = TextProgress(call, sampling.max_tokens)
    control = control_of(call, progress.on_text if call.wants_progress else None)
    (completion,) = services.engine.generate([Conversation(messages, sampling)], control)
    progress.flush()
    return ChatResult(
        text=completion.text,
        finish_reason=completion.finish_reason,
        usage=usage_of([completion]),
        model=services.engine.status().model_name,
        session_id=None,
        session_messages=None,
        truncated_messages=0,
        seed=arguments.seed,
        timings=watch.timings(completion.first_token_ms),
        reasoning=completion.reasoning,
    )


def get_model_status(arguments: NoArguments, call: Call, services: Services) -> ModelStatus:
    """Whether the model is loaded and what it takes; loads nothing."""
    status, use = services.engine.status(), services.memory_use()
    return ModelStatus(
        status="loaded" if status.state is EngineState.READY else status.state,
        loaded=status.state is EngineState.READY,
        model_name=status.model_name,
        device=status.device,
        memory_used_bytes=use.process_bytes,
        gpu_memory_used_bytes=use.gpu_bytes,
        active_references=len(services.sessions),
        supports_images=status.supports_images,
        max_images_per_prompt=services.settings.engine.max_images_per_prompt,
        dtype=status.dtype,
        max_model_len=status.max_model_len,
        load_s=status.load_s,
        error=status.error,
    )


MOST_SHOWN_CHARACTERS = 1_000


def shown_reference(reference: str) -> str:
    """A picture's reference as results repeat it: whole, but for the data of a data URL."""
    if reference[:5].casefold() == "data:":
        return f"{reference.partition(',')[0][:100]},…"
    return reference if len(reference) <= MOST_SHOWN_CHARACTERS else reference[:MOST_SHOWN_CHARACTERS] + "…"


def _query(query: str) -> str:
    if not query.strip():
        raise ArgumentError("arguments.query: it is blank; ask something, or say what to look for.")
    return query


def _picture(reference: str, call: Call, services: Services) -> ImagePart:
    picture = read_picture(reference, images_of(call, services), call)
    if isinstance(picture, str):
        raise ArgumentError(f"arguments.image_path: {picture}")
    return picture


def _sampling(arguments: VisionSampling, defaults: SamplingSettings) -> Sampling:
    return Sampling(
        temperature=arguments.temperature,
        max_tokens=arguments.max_tokens if arguments.max_tokens is not None else defaults.max_tokens,
        top_p=arguments.top_p if arguments.top_p is not None else defaults.top_p,
        top_k=defaults.top_k,
        seed=arguments.seed,
    )


def _image_result(index: int, reference: str, item: Item | str) -> ImageResult:
    if isinstance(item, str):
        return ImageResult(index, shown_reference(reference), None, None, None, None, item)
    return ImageResult(
        index=index,
        image=shown_reference(reference),
        relevant=item.relevant,
        probability=item.probability,
        analysis=item.analysis,
        finish_reason=item.finish_reason,
        error=item.error,
    )
