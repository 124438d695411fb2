"""The state of this machine's GPUs from the NVIDIA driver. A value that the driver does not report is `None`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("engine")


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. `server_bytes` is the memory that this server's processes use."""

    index: int
    name: str | None
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    server_bytes: int | None
    utilization_percent: int | None
    temperature_c: int | None


def devices(process_ids: Collection[int]) -> tuple[Device, ...]:
    """The GPUs of this machine; empty without an NVIDIA driver or a GPU.

    Arguments:
        process_ids: the server's processes.
    """
    with _driver() as nvml:
        if nvml is None:
            return ()
        count = _query(nvml, nvml.nvmlDeviceGetCount) or 0
        return tuple(_device(nvml, index, process_ids) for index in range(count))


@contextlib.contextmanager
def _driver() -> Iterator[Any]:
    """pynvml with the driver opened, or `None`. An open driver cannot be updated, so it is closed again."""
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
    handle = _query(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    memory = _query(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = _query(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    name = _query(nvml, nvml.nvmlDeviceGetName, handle)
    return Device(
        index=index,
        name=name.decode() if isinstance(name, bytes) else name,  # bytes before nvidia-ml-py 11.515
        total_bytes=None if memory is None else memory.total,
        used_bytes=None if memory is None else memory.used,
        free_bytes=None if memory is None else memory.free,
        server_bytes=_used_bytes(_query(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle), process_ids),
        utilization_percent=None if rates is None else rates.gpu,
        temperature_c=_query(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
    )


def _used_bytes(processes: Any, process_ids: Collection[int]) -> int | None:
    """The memory that these processes use together. `None` if the driver does not report it (Windows), or lists only
    processes outside this container."""
    if processes is None:
        return None
    used: list[int | None] = [process.usedGpuMemory for process in processes if process.pid in process_ids]
    known = [n_bytes for n_bytes in used if n_bytes is not None]
    return None if len(known) < len(used) or (processes and not used) else sum(known)


def _query(nvml: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """The driver's value; `None` if this GPU does not report it."""
    if arguments and arguments[0] is None:
        return None
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None
