"""Memory in use, offloading and releasing models, and the idle timeouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import OffloadUnsupported
from engine.interface import EngineState, EngineStatus
from handlers.model.model import ModelArguments
from handlers.model.states import ModelState, gigabytes, idle_s, model_states
from settings import MAX_IDLE_TIMEOUT_S

if TYPE_CHECKING:
    from engine.hardware.gpu import Device
    from engine.hardware.memory import MemoryUse
    from handlers.services import Services
    from mcp_protocol.calls.call import Call

IN_MEMORY = (EngineState.READY, EngineState.OFFLOADED)
IN_USE = "The model {} is in use by a running job and stays as it is."
NOT_HERE = "No model is loaded here, so nothing was released: the model is on the server at {}."


AllOrOne = Annotated[str, Meta(min_length=1, max_length=4_096, description="Default: all models.")]


class SomeModels(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `offload_gpu` and `release_gpu`."""

    model: AllOrOne | None = None


class TimeoutArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `update_gpu_timeout`."""

    timeout_seconds: Annotated[
        int, Meta(ge=0, le=MAX_IDLE_TIMEOUT_S, description="Seconds without use until the memory is freed; 0: never.")
    ]
    model: AllOrOne | None = None


class GpuDevice(msgspec.Struct, frozen=True):
    """One GPU as its driver reports it; `server_gb` is this server's memory on it."""

    index: int
    name: str | None
    total_gb: float | None
    used_gb: float | None
    free_gb: float | None
    server_gb: float | None
    utilization_percent: int | None
    temperature_c: int | None


class GpuStatus(msgspec.Struct, frozen=True):
    """Result of `get_gpu_status`; null if nothing is loaded, there is no GPU, or the driver does not report it.

    `models` are all models, if there are several.
    """

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
    host_memory_free_gb: float | None
    error: str | None
    models: list[ModelState] | msgspec.UnsetType = msgspec.UNSET


class Memory(msgspec.Struct, frozen=True):
    """The server's memory at one moment, on the host and on the GPUs."""

    process_memory_gb: float | None
    gpu_memory_allocated_gb: float | None
    gpu_memory_reserved_gb: float | None


class MemoryFreed(msgspec.Struct, frozen=True):
    """Result of `offload_gpu` and `release_gpu`, with the memory before and after.

    `status` is offloaded, released, unloaded if there was nothing to offload, or in_use if a job keeps the model.
    """

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


def get_gpu_status(arguments: ModelArguments, call: Call, services: Services) -> GpuStatus:
    """Where a model is and the memory in use, measured now."""
    name = services.models.name_of(arguments.model)
    status, use = services.models.engine(name).status(), services.memory_use()
    device = _main_device(use)
    return GpuStatus(
        state=status.state,
        model_name=status.model_name,
        model_location=_location(status),
        backend=status.device or (None if use.devices else "cpu"),
        offload_supported=_can_offload(status, use),
        idle_time=idle_s(status),
        idle_timeout=services.idle_timeouts.of(name).timeout_s,
        gpu_available=bool(use.devices),
        gpu_name=None if device is None else device.name,
        gpu_memory_allocated_gb=gigabytes(use.gpu_bytes),
        gpu_memory_reserved_gb=gigabytes(use.gpu_used_bytes),
        gpus=[_gpu_device(device) for device in use.devices],
        process_memory_gb=gigabytes(use.process_bytes),
        host_memory_free_gb=gigabytes(use.free_bytes),
        error=status.error,
        models=model_states(services),
    )


def offload_gpu(arguments: SomeModels, call: Call, services: Services) -> MemoryFreed:
    """Moves a model from the GPU to the host's memory; without a name all models."""
    if arguments.model is None and len(services.models.names) > 1:
        return _offload_all(services)
    name, before = services.models.name_of(arguments.model), services.memory_use()
    engine = services.models.engine(name)
    state = engine.status().state
    if engine.status().server_url is None and state not in IN_MEMORY:
        _check_offloading(engine.status(), before)
        return _memory_freed("unloaded", "No model is loaded, so there is nothing to offload.", before, before)
    if not _offloaded(name, services):
        return _memory_freed("in_use", IN_USE.format(name), before, before)
    after = services.memory_use()
    if state is EngineState.OFFLOADED:
        return _memory_freed("offloaded", "The model was already offloaded.", before, after)
    return _memory_freed(
        "offloaded", "The model is in the host's memory now; the next call moves it back to the GPU.", before, after
    )


def _offload_all(services: Services) -> MemoryFreed:
    before, statuses = services.memory_use(), services.models.statuses()
    names = [name for name, status in statuses.items() if status.state is EngineState.READY]
    if not names:
        _check_offloading(statuses[services.models.default], before)
        return _memory_freed("unloaded", "No model is on the GPU, so there is nothing to offload.", before, before)
    moved, busy = _tried(names, lambda name: _offloaded(name, services))
    message = f"In the host's memory now: {', '.join(moved)}; a call that needs one moves it back to the GPU."
    return _memory_freed("offloaded" if moved else "in_use", _told(moved, message, busy), before, services.memory_use())


def release_gpu(arguments: SomeModels, call: Call, services: Services) -> MemoryFreed:
    """Unloads a model and frees all its memory; without a name all models."""
    if arguments.model is None and len(services.models.names) > 1:
        return _release_all(services)
    name, before = services.models.name_of(arguments.model), services.memory_use()
    status = services.models.engine(name).status()
    if not services.release_model(name):  # also without a model: it clears a failed load
        return _memory_freed("in_use", IN_USE.format(name), before, before)
    if status.server_url is not None:
        return _memory_freed("released", NOT_HERE.format(status.server_url), before, before)
    if status.state not in IN_MEMORY:
        return _memory_freed("released", "No model was loaded, so nothing was released.", before, before)
    return _memory_freed(
        "released", "The model's memory was freed; the next call loads it again.", before, services.memory_use()
    )


def _release_all(services: Services) -> MemoryFreed:
    before, statuses = services.memory_use(), services.models.statuses()
    released, busy = _tried(services.models.engines(), services.release_model)
    urls = [status.server_url for status in statuses.values() if status.server_url is not None]
    if urls:
        return _memory_freed("released", NOT_HERE.format(urls[0]), before, before)
    freed = [name for name in released if statuses[name].state in IN_MEMORY]
    message = f"The memory of {', '.join(freed)} was freed; a call that needs one of them loads it again."
    if not freed and not busy:
        message = "No model was loaded, so nothing was released."
        return _memory_freed("released", message, before, before)
    return _memory_freed("released" if freed else "in_use", _told(freed, message, busy), before, services.memory_use())


def update_gpu_timeout(arguments: TimeoutArguments, call: Call, services: Services) -> TimeoutUpdated:
    """Sets after how many seconds without use a model's memory is freed; without a name that of all models."""
    seconds = arguments.timeout_seconds
    names = services.models.names if arguments.model is None else [services.models.name_of(arguments.model)]
    for name in names:
        services.idle_timeouts.of(name).timeout_s = seconds
    subject = "an unused model" if arguments.model is None else f"the unused model {names[0]}"
    message = (
        f"The memory of {subject} is freed after {seconds} s."
        if seconds
        else f"{subject[:1].upper()}{subject[1:]} stays loaded until release_gpu."
    )
    return TimeoutUpdated("updated", seconds, message)


def _check_offloading(status: EngineStatus, use: MemoryUse) -> None:
    """Raises `OffloadUnsupported` where no model can be offloaded, also while none is loaded."""
    if _can_offload(status, use) is False:
        raise OffloadUnsupported(
            "Offloading is not supported on this machine: it has no NVIDIA GPU, so the model is always in the "
            "host's memory. No model is loaded now; release_gpu frees the memory of a loaded model."
        )


def _offloaded(name: str, services: Services) -> bool:
    """Offloads a model that is not in use; false for one in use."""
    with services.models.unused(name) as is_unused:
        if is_unused:
            services.models.engine(name).offload()
        return is_unused


def _tried(names: Iterable[str], free: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """The models whose memory was freed, and those in use."""
    tried = [(name, free(name)) for name in names]
    return [name for name, is_free in tried if is_free], [name for name, is_free in tried if not is_free]


def _told(freed: list[str], message: str, busy: list[str]) -> str:
    return " ".join(([message] if freed else []) + [IN_USE.format(name) for name in busy])


def _location(status: EngineStatus) -> str | None:
    """Where the weights are; `None` while no model is loaded."""
    if status.server_url is not None:
        return "remote"
    if status.state is EngineState.READY:
        return "CPU" if status.device == "cpu" else "GPU"
    return "CPU" if status.state is EngineState.OFFLOADED else None


def _can_offload(status: EngineStatus, use: MemoryUse) -> bool | None:
    """Whether the last load found offloading supported; before a load only a missing GPU is known."""
    if status.can_offload is not None:
        return status.can_offload
    return None if use.devices else False


def _main_device(use: MemoryUse) -> Device | None:
    """The GPU that holds the model, else the first."""
    return next((device for device in use.devices if device.server_bytes), next(iter(use.devices), None))


def _gpu_device(device: Device) -> GpuDevice:
    return GpuDevice(
        index=device.index,
        name=device.name,
        total_gb=gigabytes(device.total_bytes),
        used_gb=gigabytes(device.used_bytes),
        free_gb=gigabytes(device.free_bytes),
        server_gb=gigabytes(device.server_bytes),
        utilization_percent=device.utilization_percent,
        temperature_c=device.temperature_c,
    )


def _memory_freed(status: str, message: str, before: MemoryUse, after: MemoryUse) -> MemoryFreed:
    return MemoryFreed(status, message, _freedgigabytes(before, after), _memory(before), _memory(after))


def _freedgigabytes(before: MemoryUse, after: MemoryUse) -> float | None:
    """The freed memory where the model was: on the GPUs, or without a GPU on the host."""
    pairs = [(before.process_bytes, after.process_bytes)]
    if before.devices:
        pairs = [(before.gpu_bytes, after.gpu_bytes), (before.gpu_used_bytes, after.gpu_used_bytes)]
    return next((gigabytes(old - new) for old, new in pairs if old is not None and new is not None), None)


def _memory(use: MemoryUse) -> Memory:
    return Memory(gigabytes(use.process_bytes), gigabytes(use.gpu_bytes), gigabytes(use.gpu_used_bytes))
