"""Images from text prompts, or from other images: `generate_image` and `batch_generate`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from handlers.media_generation import checked_images
from handlers.media_generation.capacity import capacity
from handlers.media_generation.inputs import read_inputs
from handlers.media_generation.jobs import PreviewKind, Wait, outcome, report
from handlers.media_generation.like import like
from mcp_protocol.tools.toolbox import ArgumentError
from omni.images.parameters import MAX_GIVEN_SEED, ImageOptions

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json
    from omni.images.generate import ImageModel
    from omni.jobs.job import AnyJob

MAX_PROMPTS = 20
MAX_REFERENCES = 4
MAX_CANDIDATES = 8
Prompt = Annotated[str, Meta(min_length=1, max_length=20_000, description="What the image shows.")]
Side = Annotated[int, Meta(ge=16, le=16_384)]
Steps = Annotated[int, Meta(ge=1, le=200, description="Diffusion steps; default: the model's.")]
Guidance = Annotated[float, Meta(ge=0, le=20, description="How closely to follow the prompt; default: the model's.")]
Seed = Annotated[int, Meta(ge=0, le=MAX_GIVEN_SEED)]
NegativePrompt = Annotated[str, Meta(max_length=20_000, description="What to avoid, if the model supports it.")]
SIZE = "Pixels; default: the model's, or the first input image's."
Ratio = Annotated[
    str,
    Meta(
        max_length=20,
        description="E.g. 16:9; overrides width and height.",
    ),
]
LoraName = Annotated[str, Meta(min_length=1, max_length=256, description="Name of a LoRA adapter that the server has.")]
Filename = Annotated[str, Meta(min_length=1, description="In the output folder; default: generated.")]


class ImageArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of both tools that generate images."""

    negative_prompt: NegativePrompt | None = None
    width: Annotated[Side, Meta(description=SIZE)] | None = None
    height: Annotated[Side, Meta(description=SIZE)] | None = None
    aspect_ratio: Ratio | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    lora: LoraName | None = None
    preview: PreviewKind = "small"
    wait_s: Wait | None = None

    def options(self) -> ImageOptions:
        """The options as omni takes them: the arguments of the same names."""
        return msgspec.convert(self, ImageOptions, from_attributes=True)


class GenerateImageArguments(ImageArguments, kw_only=True, frozen=True):
    """Arguments of `generate_image`."""

    prompt: Annotated[Prompt | None, Meta(description="What the image shows; needed without like.")] = None
    like: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=5_000,
                description=(
                    "An earlier image to make again: job_id, batch_id#index or path. What is not given stays as it "
                    "was, the seed too."
                ),
            ),
        ]
        | None
    ) = None
    image_paths: (
        Annotated[
            list[Annotated[str, Meta(min_length=1)]],
            Meta(
                min_length=1,
                max_length=MAX_REFERENCES,
                description=(
                    "Input images: absolute paths, URLs, or job_id or batch_id#index of earlier ones. The prompt says "
                    "what to change or combine."
                ),
            ),
        ]
        | None
    ) = None
    mask_path: (
        Annotated[
            str, Meta(min_length=1, description="Mask of the first input image: white is changed, black is kept.")
        ]
        | None
    ) = None
    strength: (
        Annotated[float, Meta(gt=0, le=1, description="How much of the input image is changed; 1 is all.")] | None
    ) = None
    seed: Annotated[Seed | None, Meta(description="The same seed gives the same image; default: random.")] = None
    filename: Filename | None = None
    best_of: (
        Annotated[
            int,
            Meta(
                ge=2,
                le=MAX_CANDIDATES,
                description="Make so many, check each, and keep the one that shows the prompt best.",
            ),
        ]
        | None
    ) = None
    check: Annotated[
        bool | None, Meta(description="true: the chat model checks whether the image shows the prompt.")
    ] = None


class BatchGenerateArguments(ImageArguments, kw_only=True, frozen=True):
    """Arguments of `batch_generate`."""

    prompts: Annotated[
        list[Prompt], Meta(min_length=1, max_length=MAX_PROMPTS, description="One image per prompt, in this order.")
    ]
    seeds: (
        Annotated[
            list[Seed],
            Meta(
                min_length=1, max_length=MAX_PROMPTS, description="One seed per prompt; default: random, and returned."
            ),
        ]
        | None
    ) = None
    max_concurrent: (
        Annotated[int, Meta(ge=1, le=64, description="Images generated at once; default: what the GPU allows.")] | None
    ) = None


def generate_image(arguments: GenerateImageArguments, call: Call, services: Services) -> list[Json]:
    """Generates one image, as a job with one item."""
    maker = services.image_maker
    arguments, notes = like(arguments, call, services)
    if arguments.prompt is None:
        raise ArgumentError("arguments.prompt: say what the image shows, or name an image to make again in like.")
    best_of = arguments.best_of
    checked_images.check_arguments(best_of, arguments.check, arguments.seed, services)
    inputs = read_inputs(arguments, call, services)
    planning = maker.plan([arguments.prompt], arguments.options(), inputs=inputs)
    plan = services.jobs.ask(planning, call.cancellation)
    plan.notes.extend(notes)
    limit, name = _limit(services, plan.model), arguments.filename
    job: AnyJob
    if best_of is not None or arguments.check:
        random_seeds = arguments.seed is None
        job = checked_images.start(plan, best_of, limit, services, filename=name, random_seeds=random_seeds)
    else:
        job = maker.start("image", plan, limit, name)
    return outcome(job, call, services, arguments.wait_s, partial(report, job, call, services, arguments.preview))


def batch_generate(arguments: BatchGenerateArguments, call: Call, services: Services) -> list[Json]:
    """Generates several images as one job."""
    seeds = arguments.seeds
    if seeds is not None and len(seeds) != len(arguments.prompts):
        raise ArgumentError(
            f"arguments.seeds: there are {len(seeds)} seeds for {len(arguments.prompts)} prompts; expected one per "
            "prompt, or none."
        )
    maker = services.image_maker
    plan = services.jobs.ask(maker.plan(arguments.prompts, arguments.options(), seeds), call.cancellation)
    job = maker.start("batch", plan, arguments.max_concurrent or _limit(services, plan.model))
    return outcome(job, call, services, arguments.wait_s, partial(report, job, call, services, arguments.preview))


def model_of(call: Call, services: Services) -> ImageModel:
    """The model on the image server, with its profile; raises `OmniError`."""
    return services.jobs.ask(services.image_maker.model(), call.cancellation)


def _limit(services: Services, model: ImageModel) -> int:
    """How many images are generated at once if the caller does not say."""
    return services.settings.omni.max_concurrent or capacity(services, model).concurrent
