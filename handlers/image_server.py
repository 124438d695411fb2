"""The server that makes pictures: its model and what suits it, its health, its GPU, and how long it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from handlers.capacity import GB_PER_IMAGE, capacity
from handlers.images import Side, Steps, model_of
from handlers.model import NoArguments
from omni.errors import KeyRefused, OmniError, ServerFailed, ServerRefused, ServerUnreachable
from omni.parameters import Wishes

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call
    from omni.generate import KnownModel


class EstimateArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `estimate_generation`."""

    num_images: Annotated[int, Meta(ge=1, le=10_000, description="How many pictures.")] = 1
    width: Annotated[Side, Meta(description="Pixels; left out: the model's own size.")] | None = None
    height: Annotated[Side, Meta(description="Pixels; left out: the model's own size.")] | None = None
    num_inference_steps: Steps | None = None


class RecommendedParameters(msgspec.Struct, frozen=True):
    """What suits a model."""

    num_inference_steps: int
    guidance_scale: float
    default_resolution: str


class ImageModelInfo(msgspec.Struct, frozen=True):
    """Result of `get_model_info`; null where it is not known."""

    model_name: str
    model_type: str
    recommended_parameters: RecommendedParameters
    supports_negative_prompt: bool
    max_reference_images: int | None
    supported_aspect_ratios: dict[str, str]
    estimated_vram_gb: float | None
    in_registry: bool
    warning: str | None


class Presets(msgspec.Struct, frozen=True):
    """Result of `list_presets`: sizes as WIDTHxHEIGHT in pixels; a megapixel has 1024 × 1024."""

    model: str
    resolution_multiple: int
    max_megapixels: float
    max_pixels: int
    default_resolution: str
    presets: dict[str, str]
    notes: str


class ImageServerGpu(msgspec.Struct, frozen=True):
    """Result of `gpu_status`; null where it could not be measured. A GB has 2^30 bytes."""

    gpu_name: str | None
    total_vram_gb: float | None
    used_vram_gb: float | None
    free_vram_gb: float | None
    estimated_model_vram_gb: float | None
    estimated_free_vram_gb: float | None
    last_peak_memory_gb: float | None
    recommended_max_concurrent: int
    source: Literal["measured", "estimated"]
    notes: str
    server_url: str
    server_status: str


class ServerHealth(msgspec.Struct, frozen=True):
    """Result of `server_health`; null where the server did not tell."""

    server_url: str
    status: str
    model_loaded: str | None
    latency_ms: float | None
    version: str | None
    message: str | None


class Estimate(msgspec.Struct, frozen=True):
    """Result of `estimate_generation`; null where nothing is known to estimate from."""

    estimated_time_per_image_seconds: float
    estimated_total_time_seconds: float
    estimated_peak_vram_gb: float | None
    recommended_concurrent: int
    resolution: str
    total_megapixels_per_image: float
    source: Literal["measured", "profile"]
    notes: str


def get_model_info(arguments: NoArguments, call: Call, services: Services) -> ImageModelInfo:
    """The model on the server, and what suits it."""
    model = model_of(call, services)
    profile = model.profile
    return ImageModelInfo(
        model_name=model.name,
        model_type=profile.type,
        recommended_parameters=RecommendedParameters(
            num_inference_steps=profile.default_steps,
            guidance_scale=profile.default_guidance_scale,
            default_resolution=_shown(profile.default_resolution),
        ),
        supports_negative_prompt=profile.supports_negative_prompt,
        max_reference_images=profile.max_reference_images,
        supported_aspect_ratios=_ratios(model),
        estimated_vram_gb=profile.estimated_vram_gb,
        in_registry=model.in_registry,
        warning=model.warning,
    )


def list_presets(arguments: NoArguments, call: Call, services: Services) -> Presets:
    """The sizes that suit the model."""
    model = model_of(call, services)
    profile = model.profile
    return Presets(
        model=model.name,
        resolution_multiple=profile.resolution_multiple,
        max_megapixels=profile.max_resolution_mp,
        max_pixels=profile.max_pixels,
        default_resolution=_shown(profile.default_resolution),
        presets=_ratios(model),
        notes=(
            f"Width and height may be any multiples of {profile.resolution_multiple}, with at most "
            f"{profile.max_pixels} pixels in all; the model is at its best near its default resolution."
            + ("" if profile.supported_aspect_ratios else " Any other aspect_ratio is computed likewise.")
        ),
    )


def gpu_status(arguments: NoArguments, call: Call, services: Services) -> ImageServerGpu:
    """The memory of the GPU that makes pictures: measured where that can be, else from the model's profile."""
    maker = services.image_maker
    model, status = None, "healthy"
    try:
        model = model_of(call, services)
    except ServerUnreachable:
        status = "unreachable"
    except OmniError as error:
        status = f"unhealthy: {error}"
    found = capacity(services, model)
    peak_mb = maker.peak_memory_mb
    return ImageServerGpu(
        gpu_name=found.gpu_name,
        total_vram_gb=found.total_gb,
        used_vram_gb=found.used_gb,
        free_vram_gb=found.free_gb,
        estimated_model_vram_gb=model.profile.estimated_vram_gb if model else None,
        estimated_free_vram_gb=found.free_gb,
        last_peak_memory_gb=None if peak_mb is None else round(peak_mb / 1024, 3),
        recommended_max_concurrent=found.concurrent,
        source="measured" if found.measured else "estimated",
        notes=found.notes,
        server_url=maker.client.url,
        server_status=status,
    )


def server_health(arguments: NoArguments, call: Call, services: Services) -> ServerHealth:
    """Whether the server answers, how quickly, and with which model."""
    client, ask = services.image_maker.client, services.jobs.ask
    latency_ms = model_name = version = message = None
    try:
        health = ask(client.health(), call.cancelled)
        latency_ms = health.latency_ms
        try:
            model_name = ask(client.served_model(), call.cancelled).shown
        except KeyRefused:
            raise
        except (ServerRefused, ServerFailed) as error:
            message = f"It does not tell its model. {error}"
        version = ask(client.version(), call.cancelled)
        status = "healthy" if health.is_well or model_name is not None else "unhealthy"
    except ServerUnreachable as error:
        status = "unreachable"
        message = error.why or (
            f"Nobody answers at {client.url}. Start a vLLM-Omni server there (`vllm serve MODEL --omni`, or without a "
            "GPU scripts/omni-cpu), or set OMNI_URL to the address of one."
        )
    except OmniError as error:
        status, message = "unhealthy", str(error)
    return ServerHealth(client.url, status, model_name, latency_ms, version, message)


def estimate_generation(arguments: EstimateArguments, call: Call, services: Services) -> Estimate:
    """How long pictures would take, without making any."""
    from omni.parameters import resolve
    from omni.speed import guessed_s

    model = model_of(call, services)
    wishes = Wishes(
        width=arguments.width, height=arguments.height, num_inference_steps=arguments.num_inference_steps, seed=0
    )
    parameters, _ = resolve(model.name, model.profile, "", wishes)
    megapixels = parameters.width * parameters.height / 1e6
    measured = services.image_maker.speeds.measured(model.name)
    if measured is not None:
        speed, n_generations = measured
        seconds = parameters.megapixel_steps / speed
        basis = f"From {n_generations} generations that this server has made: {speed:.3g} megapixel-steps a second."
    else:
        seconds = guessed_s(megapixels, parameters.steps, model.profile)
        basis = "From the kind of model alone, for a GPU that suits it; a CPU takes far longer."
    room = capacity(services, model)
    return Estimate(
        estimated_time_per_image_seconds=round(seconds, 2),
        estimated_total_time_seconds=round(seconds * arguments.num_images, 2),
        estimated_peak_vram_gb=_peak_gb(model, megapixels, min(arguments.num_images, room.concurrent)),
        recommended_concurrent=room.concurrent,
        resolution=_shown((parameters.width, parameters.height)),
        total_megapixels_per_image=round(megapixels, 2),
        source="measured" if measured is not None else "profile",
        notes=(
            f"{model.profile.type.capitalize()} model, {parameters.steps} steps. {basis} First generation may be "
            "slower due to torch.compile warmup."
        ),
    )


def _ratios(model: KnownModel) -> dict[str, str]:
    return {ratio: _shown(size) for ratio, size in model.profile.aspect_ratios.items()}


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _peak_gb(model: KnownModel, megapixels: float, n_at_once: int) -> float | None:
    if model.profile.estimated_vram_gb is None:
        return None
    return round(model.profile.estimated_vram_gb + GB_PER_IMAGE * megapixels / (1024 * 1024 / 1e6) * n_at_once, 1)
