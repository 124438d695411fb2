"""Memory and the model's life: what is in use, giving it back, the idle timeout, and which models there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import OffloadUnsupported
from engine.interface import EngineState, EngineStatus
from engine.model_catalog import CatalogModel, catalog
from handlers.model import NoArguments
from settings import MAX_IDLE_TIMEOUT_S

if TYPE_CHECKING:
    from engine.gpu import Device
    from engine.memory import MemoryUse
    from handlers.services import Services
    from mcp_protocol.call import Call

GB = 1 << 30
"""As graphics cards count: a card of 24 GB has 24 × 2^30 bytes."""


class TimeoutArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `update_gpu_timeout`."""

    timeout_seconds: Annotated[
        int,
        Meta(ge=0, le=MAX_IDLE_TIMEOUT_S, description="Seconds without use until the memory is given back; 0: never."),
    ]


class GpuDevice(msgspec.Struct, frozen=True):
    """One GPU as its driver reports it; `server_gb` is what this server holds of it."""

    index: int
    name: str | None
    total_gb: float | None
    used_gb: float | None
    free_gb: float | None
    server_gb: float | None
    utilization_percent: int | None
    temperature_c: int | None


class GpuStatus(msgspec.Struct, frozen=True):
    """Result of `get_gpu_status`; null where nothing is loaded, there is no GPU, or the driver does not tell."""

    state: str
    model_name: str
    model_location: str | None
    backend: str | None
    offload_supported: bool | None
    idle_time: float | None
    idle_timeout: int
    gpu_available: bool
    gpu_name: str | None
    gpu_memory_allocated_gb: float | None
    gpu_memory_reserved_gb: float | None
    gpus: list[GpuDevice]
    process_memory_gb: float | None
    host_memory_free_gb: float
    error: str | None


class Memory(msgspec.Struct, frozen=True):
    """What the server holds at one moment: of the machine's memory, and of the GPUs."""

    process_memory_gb: float | None
    gpu_memory_allocated_gb: float | None
    gpu_memory_reserved_gb: float | None


class MemoryGivenBack(msgspec.Struct, frozen=True):
    """Result of `offload_gpu` and `release_gpu`: what became of the model, and the memory before and after."""

    status: str
    message: str
    freed_gb: float | None
    before: Memory
    after: Memory


class TimeoutUpdated(msgspec.Struct, frozen=True):
    """Result of `update_gpu_timeout`."""

    status: str
    timeout: int
    message: str


class AvailableModel(msgspec.Struct, frozen=True):
    """A model by the name that `VLLM_MODEL_NAME` takes; `fits` says whether this machine has the memory it needs."""

    name: str
    loaded: bool
    size_on_disk_gb: float | None
    memory_needed_gb: float | None
    fits: bool | None
    note: str


class TalkingVideoServer(msgspec.Struct, frozen=True):
    """A vLLM-Omni server that may make talking videos; null where it did not tell.

    `model_types` are the names that mean it in process_image_to_video and process_video_to_video, `name` is the model
    that it serves, `talks` whether that makes a video from a picture and a voice.
    """

    server_url: str
    model_types: list[str]
    name: str | None
    talks: bool | None
    note: str


class ModelGroups(msgspec.Struct, frozen=True):
    """The models, each in the first group that it belongs to; `video` has servers in place of models."""

    configured: list[AvailableModel]
    bundled: list[AvailableModel]
    cached: list[AvailableModel]
    suggested: list[AvailableModel]
    video: list[TalkingVideoServer]


class ModelList(msgspec.Struct, frozen=True):
    """Result of `list_available_models`."""

    status: str
    models: ModelGroups
    total_count: int
    message: str


def get_gpu_status(arguments: NoArguments, call: Call, services: Services) -> GpuStatus:
    """Where the model is and what memory is in use, measured now."""
    status, use = services.engine.status(), services.memory_use()
    device = _main_device(use)
    return GpuStatus(
        state=status.state,
        model_name=status.model_name,
        model_location=_location(status),
        backend=status.device or (None if use.devices else "cpu"),
        offload_supported=_can_offload(status, use),
        idle_time=None if status.last_used_s is None else round(time.monotonic() - status.last_used_s, 1),
        idle_timeout=services.idle_timeout.timeout_s,
        gpu_available=bool(use.devices),
        gpu_name=None if device is None else device.name,
        gpu_memory_allocated_gb=_gb(use.gpu_bytes),
        gpu_memory_reserved_gb=_gb(use.gpu_used_bytes),
        gpus=[_shown_device(device) for device in use.devices],
        process_memory_gb=_gb(use.process_bytes),
        host_memory_free_gb=round(use.free_bytes / GB, 3),
        error=status.error,
    )


def offload_gpu(arguments: NoArguments, call: Call, services: Services) -> MemoryGivenBack:
    """Moves the model off the GPU into the host's memory."""
    engine, before = services.engine, services.memory_use()
    state = engine.status().state
    if engine.status().server_url is None and state not in (EngineState.READY, EngineState.OFFLOADED):
        if _can_offload(engine.status(), before) is False:
            raise OffloadUnsupported(
                "Offloading is not supported on this machine: it has no NVIDIA GPU, so a model is in the host's memory "
                "anyway. None is loaded now; release_gpu gives a loaded one's memory back."
            )
        return _given_back("unloaded", "No model is loaded, so there is nothing to offload.", before, before)
    engine.offload()
    after = services.memory_use()
    if state is EngineState.OFFLOADED:
        return _given_back("offloaded", "The model was offloaded already.", before, after)
    return _given_back(
        "offloaded", "The model is in the host's memory now; the next call brings it back to the GPU.", before, after
    )


def release_gpu(arguments: NoArguments, call: Call, services: Services) -> MemoryGivenBack:
    """Drops the model and gives all its memory back."""
    engine, before = services.engine, services.memory_use()
    state, url = engine.status().state, engine.status().server_url
    services.release_model()  # also without a model: a failed load is forgotten
    if url is not None:
        told = f"Nothing is loaded here, so nothing was released: the model is on the server at {url}, which keeps it."
        return _given_back("released", told, before, before)
    if state not in (EngineState.READY, EngineState.OFFLOADED):
        return _given_back("released", "No model was loaded, so nothing was released.", before, before)
    return _given_back(
        "released", "The model's memory was given back; the next call loads it again.", before, services.memory_use()
    )


def update_gpu_timeout(arguments: TimeoutArguments, call: Call, services: Services) -> TimeoutUpdated:
    """Sets after how many seconds without use the model gives its memory back."""
    services.idle_timeout.timeout_s = seconds = arguments.timeout_seconds
    message = (
        f"An unused model gives its memory back after {seconds} s."
        if seconds
        else "An unused model keeps its memory until release_gpu."
    )
    return TimeoutUpdated("updated", seconds, message)


def list_available_models(arguments: NoArguments, call: Call, services: Services) -> ModelList:
    """The models on this machine and some worth a download, with the memory they need, and the servers of video."""
    status = services.engine.status()
    groups, message = (
        _local_models(services) if status.server_url is None else _served_models(status, status.server_url)
    )
    groups = msgspec.structs.replace(groups, video=_video_servers(call, services))
    return ModelList(
        status="success",
        models=groups,
        total_count=sum(model.name is not None for name in groups.__struct_fields__ for model in getattr(groups, name)),
        message=f"{message} For talking video set OMNI_VIDEO_URL, or OMNI_VIDEO_MODELS for several servers.",
    )


def _local_models(services: Services) -> tuple[ModelGroups, str]:
    """The models that the engine of this process can load."""
    found = catalog(services.settings.engine, services.memory_use())
    is_loaded = services.engine.status().state in (EngineState.READY, EngineState.OFFLOADED)
    groups = ModelGroups(
        configured=[_shown_model(model, loaded=is_loaded) for model in found.configured],
        bundled=[_shown_model(model) for model in found.bundled],
        cached=[_shown_model(model) for model in found.cached],
        suggested=[_shown_model(model) for model in found.suggested],
        video=[],
    )
    message = (
        "To use another model, set VLLM_MODEL_NAME to its name, or for the bundled one leave it empty, and start "
        "the server again. Suggested models are downloaded at their first load. memory_needed_gb is an estimate: "
        "weights × 1.2 + 1 GB."
    )
    return groups, message


def _served_models(status: EngineStatus, url: str) -> tuple[ModelGroups, str]:
    """The models of the server that stands for an engine here; nothing is known of its memory."""
    is_ready = status.state is EngineState.READY
    shown = [
        AvailableModel(name, name == status.model_name, None, None, None, f"on the server at {url}")
        for name in (status.served_models if is_ready else ())
    ]
    message = f"These are the models of the server at {url}; VLLM_MODEL_NAME names the one to use. "
    if not is_ready:
        message = f"The server at {url} is asked for its models at the first call that needs one. "
    message += "Without VLLM_BASE_URL the server runs a model of its own."
    return ModelGroups(shown, [], [], [], []), message


def _video_servers(call: Call, services: Services) -> list[TalkingVideoServer]:
    toolsets = services.settings.server.toolsets
    if toolsets and "video" not in toolsets:
        return []
    states = services.jobs.ask(services.video_maker.servers.states(), call.cancelled)
    return [TalkingVideoServer(state.url, state.model_types, state.model, state.talks, state.note) for state in states]


def _location(status: EngineStatus) -> str | None:
    """Which memory holds the weights; `None` while no model is loaded."""
    if status.server_url is not None:
        return "remote"
    if status.state is EngineState.READY:
        return "CPU" if status.device == "cpu" else "GPU"
    return "CPU" if status.state is EngineState.OFFLOADED else None


def _can_offload(status: EngineStatus, use: MemoryUse) -> bool | None:
    """What the last load found out; before one, only that it takes a GPU."""
    if status.can_offload is not None:
        return status.can_offload
    return None if use.devices else False


def _main_device(use: MemoryUse) -> Device | None:
    """The GPU that holds the model, else the first."""
    return next((device for device in use.devices if device.server_bytes), next(iter(use.devices), None))


def _shown_device(device: Device) -> GpuDevice:
    return GpuDevice(
        index=device.index,
        name=device.name,
        total_gb=_gb(device.total_bytes),
        used_gb=_gb(device.used_bytes),
        free_gb=_gb(device.free_bytes),
        server_gb=_gb(device.server_bytes),
        utilization_percent=device.utilization_percent,
        temperature_c=device.temperature_c,
    )


def _given_back(status: str, message: str, before: MemoryUse, after: MemoryUse) -> MemoryGivenBack:
    return MemoryGivenBack(status, message, _freed_gb(before, after), _memory(before), _memory(after))


def _freed_gb(before: MemoryUse, after: MemoryUse) -> float | None:
    """What became free where the model was: on the GPUs, or without one in the machine's memory."""
    pairs = [(before.process_bytes, after.process_bytes)]
    if before.devices:
        pairs = [(before.gpu_bytes, after.gpu_bytes), (before.gpu_used_bytes, after.gpu_used_bytes)]
    return next((_gb(was - now) for was, now in pairs if was is not None and now is not None), None)


def _memory(use: MemoryUse) -> Memory:
    return Memory(_gb(use.process_bytes), _gb(use.gpu_bytes), _gb(use.gpu_used_bytes))


def _shown_model(model: CatalogModel, loaded: bool = False) -> AvailableModel:
    return AvailableModel(model.name, loaded, _gb(model.disk_bytes), _gb(model.needs_bytes), model.fits, model.note)


def _gb(n_bytes: int | None) -> float | None:
    return None if n_bytes is None else round(n_bytes / GB, 3)
