"""What tests of the engine share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.unit.engine.fake_llm import OutputKind
from tests.unit.engine.session_samples import OPENED


@pytest.fixture(autouse=True)
def _no_file_stays_open() -> Iterator[None]:
    """Closes the files of the test's sessions."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def stand_in_for_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules with the names that `engine.local` imports from vLLM."""
    modules = {
        "vllm": SimpleNamespace(SamplingParams=SimpleNamespace),
        "vllm.sampling_params": SimpleNamespace(RequestOutputKind=OutputKind),
        "vllm.lora.request": SimpleNamespace(LoRARequest=lambda *given: given),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
