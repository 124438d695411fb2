"""Pictures from words, or from other pictures: `generate_image` and `batch_generate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from handlers.capacity import capacity
from handlers.held_images import images_of
from handlers.jobs import PreviewKind, Wait, report, wait_for
from handlers.pictures import pictures_of
from mcp_protocol.tools import ArgumentError
from omni.parameters import Wishes

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call
    from mcp_protocol.jsonrpc import Json
    from omni.generate import KnownModel

MAX_PROMPTS = 20
MAX_REFERENCES = 4
MAX_SEED = 2**63 - 1
Prompt = Annotated[str, Meta(min_length=1, max_length=20_000, description="What the picture is to show.")]
Side = Annotated[int, Meta(ge=16, le=16_384)]
Steps = Annotated[int, Meta(ge=1, le=200, description="Diffusion steps; left out: what suits the model.")]
Guidance = Annotated[
    float, Meta(ge=0, le=20, description="How closely to follow the prompt; left out: what suits the model.")
]
Seed = Annotated[int, Meta(ge=0, le=MAX_SEED)]
NegativePrompt = Annotated[
    str, Meta(max_length=20_000, description="What to avoid; ignored, with a note, where the model cannot.")
]
SIZE = "Pixels; left out: the model's own size, and for an edit that of the first of image_paths."
Ratio = Annotated[
    str,
    Meta(max_length=20, description="For example 16:9; wins over width and height. list_presets names the model's."),
]


class ImageWishes(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What both tools that make pictures take."""

    negative_prompt: NegativePrompt | None = None
    width: Annotated[Side, Meta(description=SIZE)] | None = None
    height: Annotated[Side, Meta(description=SIZE)] | None = None
    aspect_ratio: Ratio | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    preview: PreviewKind = "small"
    wait_s: Wait | None = None

    def wishes(self, seed: int | None = None) -> Wishes:
        """The same for omni."""
        return Wishes(
            negative_prompt=self.negative_prompt,
            width=self.width,
            height=self.height,
            aspect_ratio=self.aspect_ratio,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=seed,
        )


class GenerateImageArguments(ImageWishes, kw_only=True, frozen=True):
    """Arguments of `generate_image`."""

    prompt: Prompt
    image_paths: (
        Annotated[
            list[Annotated[str, Meta(min_length=1)]],
            Meta(
                min_length=1,
                max_length=MAX_REFERENCES,
                description="Pictures to begin from: absolute paths, or file:, data: or http(s) URLs. The prompt then "
                "says what to change or how to combine them. Not every model can.",
            ),
        ]
        | None
    ) = None
    seed: (
        Annotated[Seed, Meta(description="The same seed makes the same picture; left out: drawn, and told.")] | None
    ) = None
    filename: (
        Annotated[str, Meta(min_length=1, description="Name of the file in the output folder; left out: made up.")]
        | None
    ) = None


class BatchGenerateArguments(ImageWishes, kw_only=True, frozen=True):
    """Arguments of `batch_generate`."""

    prompts: Annotated[
        list[Prompt], Meta(min_length=1, max_length=MAX_PROMPTS, description="One picture for each, in this order.")
    ]
    seeds: (
        Annotated[
            list[Seed],
            Meta(
                min_length=1, max_length=MAX_PROMPTS, description="A seed for each prompt; left out: drawn, and told."
            ),
        ]
        | None
    ) = None
    max_concurrent: (
        Annotated[int, Meta(ge=1, le=64, description="Pictures made at once; left out: what the GPU allows.")] | None
    ) = None


def generate_image(arguments: GenerateImageArguments, call: Call, services: Services) -> list[Json]:
    """Makes one picture, as a job of one."""
    maker = services.image_maker
    references = _references(arguments.image_paths or [], call, services)
    planning = maker.plan([arguments.prompt], arguments.wishes(arguments.seed), references=references)
    plan = services.jobs.ask(planning, call.cancelled)
    job = maker.start("image", plan, _limit(services, plan.model), arguments.filename)
    wait_for(job, call, services, arguments.wait_s)
    return report(job, call, services, arguments.preview)


def batch_generate(arguments: BatchGenerateArguments, call: Call, services: Services) -> list[Json]:
    """Makes several pictures as one job."""
    seeds = arguments.seeds
    if seeds is not None and len(seeds) != len(arguments.prompts):
        raise ArgumentError(
            f"arguments.seeds: there are {len(seeds)} seeds for {len(arguments.prompts)} prompts; one for each is "
            "expected, or none at all."
        )
    maker = services.image_maker
    plan = services.jobs.ask(maker.plan(arguments.prompts, arguments.wishes(), seeds), call.cancelled)
    job = maker.start("batch", plan, arguments.max_concurrent or _limit(services, plan.model))
    wait_for(job, call, services, arguments.wait_s)
    return report(job, call, services, arguments.preview)


def _references(references: list[str], call: Call, services: Services) -> list[bytes]:
    """The pictures to begin from, as PNG files; one that cannot be read ends the call."""
    if not references:
        return []
    from omni.pictures import png_of

    encoded = []
    with pictures_of(references, images_of(call, services), call) as found:
        for number, picture in enumerate(found):
            if isinstance(picture, str):
                raise ArgumentError(f"arguments.image_paths[{number}]: {picture}")
            encoded.append(png_of(picture.image))
    return encoded


def model_of(call: Call, services: Services) -> KnownModel:
    """The model on the server that makes pictures, with its profile; raises omni's errors."""
    return services.jobs.ask(services.image_maker.model(), call.cancelled)


def _limit(services: Services, model: KnownModel) -> int:
    """How many pictures may be made at once where the caller does not say."""
    return services.settings.omni.max_concurrent or capacity(services, model).concurrent
