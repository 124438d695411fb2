"""Which GPU is meant, and what others hold there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.hardware import gpu
from engine.interface import EngineState

if TYPE_CHECKING:
    from engine.hardware.gpu import Device
    from engine.interface import Engine


def can_sleep(engine: Engine, device: Device, *, is_only: bool) -> bool:
    """Whether a chat model is loaded on this GPU and can be offloaded."""
    status = engine.status()
    if status.state is not EngineState.READY or not status.can_offload:
        return False
    own = () if is_only else gpu.devices(engine.process_ids())
    return is_only or any(each.server_bytes for each in own if each.index == device.index)


def most_used_by_others(devices: tuple[Device, ...]) -> Device | None:
    """The GPU that a vLLM-Omni server most likely uses."""
    return max(devices, key=lambda device: others_bytes_of(device) or 0, default=None)


def of_index(devices: tuple[Device, ...], index: int) -> Device | None:
    """The GPU of that number."""
    return next((device for device in devices if device.index == index), None)


def others_bytes_of(device: Device) -> int | None:
    """What other programs hold on a GPU; `None` where the driver does not say what is this server's."""
    if device.used_bytes is None or device.server_bytes is None:
        return None
    return max(0, device.used_bytes - device.server_bytes)
