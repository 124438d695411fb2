"""The image server: its model and recommended parameters, its health, its GPU, and time estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from handlers.media_generation.capacity import GB_PER_IMAGE, capacity
from handlers.media_generation.images import Side, Steps, model_of
from handlers.model.model import NoArguments
from omni.errors import KeyRefused, OmniError, ServerFailed, ServerRefused, ServerUnreachable
from omni.images.parameters import ImageOptions
from settings import in_clone

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from omni.images.generate import ImageModel


class EstimateArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `estimate_generation`."""

    num_images: Annotated[int, Meta(ge=1, le=10_000, description="Number of images.")] = 1
    width: Annotated[Side, Meta(description="Pixels; default: the model's own size.")] | None = None
    height: Annotated[Side, Meta(description="Pixels; default: the model's own size.")] | None = None
    num_inference_steps: Steps | None = None


class RecommendedParameters(msgspec.Struct, frozen=True):
    """Recommended parameters of a model."""

    num_inference_steps: int
    guidance_scale: float
    default_resolution: str


class ImageModelInfo(msgspec.Struct, frozen=True):
    """Result of `get_model_info`; null if unknown.

    `supports_strength` says with what strength counts: "never", "with_mask" or "with_image".
    """

    model_name: str
    model_type: str
    recommended_parameters: RecommendedParameters
    supports_negative_prompt: bool
    max_reference_images: int | None
    supports_mask: bool | None
    supports_strength: str | None
    lora_modules: list[str]
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
    """Result of `gpu_status`; null if it could not be measured. A GB has 2^30 bytes."""

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
    """Result of `server_health`; null if the server did not report it."""

    server_url: str
    status: str
    model_loaded: str | None
    latency_ms: float | None
    version: str | None
    message: str | None


class Estimate(msgspec.Struct, frozen=True):
    """Result of `estimate_generation`; null if there is no data for an estimate."""

    estimated_time_per_image_seconds: float
    estimated_total_time_seconds: float
    estimated_peak_vram_gb: float | None
    recommended_concurrent: int
    resolution: str
    total_megapixels_per_image: float
    source: Literal["measured", "profile"]
    notes: str


def get_model_info(arguments: NoArguments, call: Call, services: Services) -> ImageModelInfo:
    """The model on the server and its recommended parameters."""
    model = model_of(call, services)
    profile = model.profile
    return ImageModelInfo(
        model_name=model.name,
        model_type=profile.type,
        recommended_parameters=RecommendedParameters(
            num_inference_steps=profile.default_steps,
            guidance_scale=profile.default_guidance_scale,
            default_resolution=_resolution(profile.default_resolution),
        ),
        supports_negative_prompt=profile.supports_negative_prompt,
        max_reference_images=profile.max_reference_images,
        supports_mask=profile.supports_mask,
        supports_strength=profile.supports_strength,
        lora_modules=services.image_maker.loras.names,
        supported_aspect_ratios=_ratios(model),
        estimated_vram_gb=profile.estimated_vram_gb,
        in_registry=model.in_registry,
        warning=model.warning,
    )


def list_presets(arguments: NoArguments, call: Call, services: Services) -> Presets:
    """The recommended sizes of the model."""
    model = model_of(call, services)
    profile = model.profile
    return Presets(
        model=model.name,
        resolution_multiple=profile.resolution_multiple,
        max_megapixels=profile.max_resolution_mp,
        max_pixels=profile.max_pixels,
        default_resolution=_resolution(profile.default_resolution),
        presets=_ratios(model),
        notes=(
            f"Width and height may be any multiples of {profile.resolution_multiple}, with at most "
            f"{profile.max_pixels} pixels in total; the model works best near its default resolution."
            + ("" if profile.supported_aspect_ratios else " Sizes for other values of aspect_ratio are computed.")
        ),
    )


def gpu_status(arguments: NoArguments, call: Call, services: Services) -> ImageServerGpu:
    """The memory of the GPU that generates images: measured if possible, else from the model's profile."""
    maker = services.image_maker
    model, status = None, "healthy"
    try:
        model = model_of(call, services)
    except ServerUnreachable:
        status = "unreachable"
    except OmniError as error:
        status = f"unhealthy: {error}"
    gpu = capacity(services, model)
    peak_mb = maker.peak_memory_mb
    return ImageServerGpu(
        gpu_name=gpu.gpu_name,
        total_vram_gb=gpu.total_gb,
        used_vram_gb=gpu.used_gb,
        free_vram_gb=gpu.free_gb,
        estimated_model_vram_gb=model.profile.estimated_vram_gb if model else None,
        estimated_free_vram_gb=gpu.free_gb,
        last_peak_memory_gb=None if peak_mb is None else round(peak_mb / 1024, 3),
        recommended_max_concurrent=gpu.concurrent,
        source="measured" if gpu.measured else "estimated",
        notes=gpu.notes,
        server_url=maker.client.url,
        server_status=status,
    )


def server_health(arguments: NoArguments, call: Call, services: Services) -> ServerHealth:
    """Whether the server responds, its latency, and its model."""
    client, ask = services.image_maker.client, services.jobs.ask
    latency_ms = model_name = version = message = None
    try:
        health = ask(client.health(), call.cancellation)
        latency_ms = health.latency_ms
        try:
            model_name = ask(client.served_model(), call.cancellation).shown
        except KeyRefused:
            raise
        except (ServerRefused, ServerFailed) as error:
            message = f"The server does not report its model. {error}"
        version = ask(client.version(), call.cancellation)
        status = "healthy" if health.is_well or model_name is not None else "unhealthy"
    except ServerUnreachable as error:
        status = "unreachable"
        message = error.why or (
            f"No server responds at {client.url}. Start a vLLM-Omni server there (`vllm serve MODEL --omni`"
            f"{in_clone(', or without a GPU `scripts/omni-cpu`')}), or set OMNI_URL to the URL of one."
        )
    except OmniError as error:
        status, message = "unhealthy", str(error)
    return ServerHealth(client.url, status, model_name, latency_ms, version, message)


def estimate_generation(arguments: EstimateArguments, call: Call, services: Services) -> Estimate:
    """How long images would take, without generating any."""
    from omni.images.parameters import resolve

    model = model_of(call, services)
    options = ImageOptions(
        width=arguments.width, height=arguments.height, num_inference_steps=arguments.num_inference_steps, seed=0
    )
    parameters, _ = resolve(model.name, model.profile, "", options)
    megapixels = parameters.width * parameters.height / 1e6
    measured = services.image_maker.speeds.measured(model.name)
    if measured is not None:
        speed, n_generations = measured
        seconds = parameters.megapixel_steps / speed
        basis = f"From {n_generations} earlier generations of this server: {speed:.3g} megapixel-steps per second."
    else:
        from omni.images.speed import estimated_s

        seconds = estimated_s(megapixels, parameters.steps, model.profile)
        basis = "From the type of model alone, for a suitable GPU; a CPU takes far longer."
    gpu = capacity(services, model)
    return Estimate(
        estimated_time_per_image_seconds=round(seconds, 2),
        estimated_total_time_seconds=round(seconds * arguments.num_images, 2),
        estimated_peak_vram_gb=_peak_gb(model, megapixels, min(arguments.num_images, gpu.concurrent)),
        recommended_concurrent=gpu.concurrent,
        resolution=_resolution((parameters.width, parameters.height)),
        total_megapixels_per_image=round(megapixels, 2),
        source="measured" if measured is not None else "profile",
        notes=(
            f"{model.profile.type.capitalize()} model, {parameters.steps} steps. {basis} First generation may be "
            "slower due to torch.compile warmup."
        ),
    )


def _ratios(model: ImageModel) -> dict[str, str]:
    return {ratio: _resolution(size) for ratio, size in model.profile.aspect_ratios.items()}


def _resolution(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _peak_gb(model: ImageModel, megapixels: float, n_at_once: int) -> float | None:
    if model.profile.estimated_vram_gb is None:
        return None
    return round(model.profile.estimated_vram_gb + GB_PER_IMAGE * megapixels / (1024 * 1024 / 1e6) * n_at_once, 1)
