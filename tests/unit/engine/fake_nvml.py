"""A stand-in for `pynvml`: GPUs with figures, any of which may be missing as drivers leave them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GB = 1 << 30


class NVMLError(Exception):
    """The driver has no answer."""


@dataclass
class Card:
    """One GPU; `None` makes the driver refuse that question. `processes` are pairs of id and bytes."""

    name: str | None = "NVIDIA Test 24GB"
    total: int | None = 24 * GB
    used: int = 0
    load: int | None = 12
    temperature: int | None = 45
    processes: list[tuple[int, int | None]] | None = field(default_factory=list)


class FakeNvml:
    """Implements the part of `pynvml` that the server asks; `opened` counts who has the driver open."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *cards: Card, driver: bool = True) -> None:
        self.cards = cards
        self.driver = driver
        self.opened = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("NVML Shared Library Not Found")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetName(self, card: Card) -> Any:
        return self._told(card.name)

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> Any:
        total = self._told(card.total)
        return SimpleNamespace(total=total, used=card.used, free=total - card.used)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> Any:
        return SimpleNamespace(gpu=self._told(card.load))

    def nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> Any:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._told(card.temperature)

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> Any:
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in self._told(card.processes)]

    def _told(self, figure: Any) -> Any:
        if figure is None:
            raise NVMLError("Not Supported")
        return figure
