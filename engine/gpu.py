"""What the NVIDIA driver reports of this machine's GPUs. Everything is measured at the moment of asking, or `None`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("engine")


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. `server_bytes` is what this server's processes hold of it."""

    index: int
    name: str | None
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    server_bytes: int | None
    utilization_percent: int | None
    temperature_c: int | None


def devices(process_ids: Collection[int]) -> tuple[Device, ...]:
    """The GPUs of this machine; empty where there is no NVIDIA driver or no GPU.

    Arguments:
        process_ids: the processes whose memory counts as the server's.
    """
    with _driver() as nvml:
        if nvml is None:
            return ()
        count = _asked(nvml, nvml.nvmlDeviceGetCount) or 0
        return tuple(_device(nvml, index, process_ids) for index in range(count))


@contextlib.contextmanager
def _driver() -> Iterator[Any]:
    """pynvml with the driver open, or `None`. It is closed again: an open driver could not be updated or reset."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:
        log.debug("no NVIDIA driver: %s", error)
        yield None
        return
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _device(nvml: Any, index: int, process_ids: Collection[int]) -> Device:
    handle = _asked(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = _asked(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    name = _asked(nvml, nvml.nvmlDeviceGetName, handle)
    return Device(
        index=index,
        name=name.decode() if isinstance(name, bytes) else name,  # bytes before nvidia-ml-py 11.515
        total_bytes=None if memory is None else memory.total,
        used_bytes=None if memory is None else memory.used,
        free_bytes=None if memory is None else memory.free,
        server_bytes=_held_bytes(_asked(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle), process_ids),
        utilization_percent=None if rates is None else rates.gpu,
        temperature_c=_asked(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
    )


def _held_bytes(processes: Any, process_ids: Collection[int]) -> int | None:
    """What these processes hold together.

    Unknown where the driver keeps a process's memory to itself (Windows), or lists only processes that are not of
    this container, so that ours cannot be told from others.
    """
    if processes is None:
        return None
    held: list[int | None] = [process.usedGpuMemory for process in processes if process.pid in process_ids]
    known = [n_bytes for n_bytes in held if n_bytes is not None]
    return None if len(known) < len(held) or (processes and not held) else sum(known)


def _asked(nvml: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """The driver's answer, `None` where this GPU has none to this question."""
    if arguments and arguments[0] is None:
        return None
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None
