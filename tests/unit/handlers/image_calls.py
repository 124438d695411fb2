"""What the tests of the image tools share."""

from __future__ import annotations

from typing import Any

import pytest

from engine.hardware.gpu import Device
from engine.hardware.memory import MemoryUse
from tests.unit.handlers.tool_client import Client

Json = dict[str, Any]


GB = 1 << 30


WAIT_S = 10.0


SMALL = {"width": 64, "height": 64}


def measure(client: Client, monkeypatch: pytest.MonkeyPatch, free_gb: float | None) -> None:
    """Puts a GPU with so much free memory into the machine, or none."""
    gpus = () if free_gb is None else (Device(0, "RTX", 32 * GB, 13 * GB, int(free_gb * GB), 0, 5, 50),)
    monkeypatch.setattr(client.services, "memory_use", lambda: MemoryUse(GB, GB, gpus))
