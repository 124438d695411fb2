"""Services for checks: real ones with a fake engine, on a machine without a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

import settings
from handlers.services import Services
from tests.unit.engine.fake_nvml import Card, FakeNvml
from tests.unit.fake_engine import FakeEngine

MakeServices = Callable[..., Services]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have a GPU."""
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(driver=False))
    monkeypatch.setattr("cli.check.machine.DRIVER_FILES", "/nowhere/nvidia")


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts GPUs into the machine."""

    def put(*found: Card) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*found))

    return put


@pytest.fixture
def make_services() -> Iterator[MakeServices]:
    """`make_services(VLLM_MODEL_NAME="…")`; the engine is a fake one unless the model is on a server."""
    made: list[Services] = []

    def make(engine: FakeEngine | None = None, **environment: str) -> Services:
        services = Services(settings.read(environment))
        if "VLLM_BASE_URL" not in environment:
            services.engine = engine or FakeEngine()
        made.append(services)
        return services

    yield make
    for services in made:
        services.close()
