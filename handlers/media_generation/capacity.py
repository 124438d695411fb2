"""How many images the GPU can generate at once, from its measured memory if it is in this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from engine.hardware.gpu import Device
    from handlers.services import Services
    from omni.images.generate import ImageModel

GB = 1 << 30
GB_PER_IMAGE = 2.0
"""Estimated memory for generating one image of 1024 × 1024 pixels."""
MAX_CONCURRENT = 4
"""Consumer GPUs run out of memory with more."""


class Capacity(msgspec.Struct, frozen=True):
    """A GPU's memory in GB of 2^30 bytes, None if not measured, and how many images it can generate at once."""

    concurrent: int
    measured: bool
    notes: str
    gpu_name: str | None = None
    total_gb: float | None = None
    used_gb: float | None = None
    free_gb: float | None = None


def capacity(services: Services, model: ImageModel | None) -> Capacity:
    """Measures the GPU now if the image server is on this machine.

    A loaded model has allocated its memory already, so all memory free now is available for images.
    """
    from http_client.addresses import is_on_this_machine

    if not is_on_this_machine(services.settings.omni.url):
        return _estimated("The vLLM-Omni server is on another machine; its GPU cannot be measured from here.", model)
    device = _omni_device(services)
    if device is None or device.free_bytes is None:
        return _estimated("No NVIDIA driver reports a GPU on this machine, so its memory was not measured.", model)
    free_gb = device.free_bytes / GB
    return Capacity(
        concurrent=max(1, min(MAX_CONCURRENT, int(free_gb / GB_PER_IMAGE))),
        measured=True,
        notes="Measured by the NVIDIA driver, on the GPU with the most memory in use by other programs.",
        gpu_name=device.name,
        total_gb=_gb(device.total_bytes),
        used_gb=_gb(device.used_bytes),
        free_gb=_gb(device.free_bytes),
    )


def _estimated(reason: str, model: ImageModel | None) -> Capacity:
    needs = model.profile.estimated_vram_gb if model is not None else None
    estimate = f" The model needs about {needs:g} GB by its profile." if needs is not None else ""
    return Capacity(concurrent=1, measured=False, notes=f"{reason}{estimate} One image at a time is always safe.")


def _omni_device(services: Services) -> Device | None:
    """The GPU that the vLLM-Omni server most likely uses: the one with the most memory in use by other programs."""
    devices = services.memory_use().devices
    return max(devices, key=lambda device: (device.used_bytes or 0) - (device.server_bytes or 0), default=None)


def _gb(n_bytes: int | None) -> float | None:
    return None if n_bytes is None else round(n_bytes / GB, 3)
