"""Which of vLLM's messages are kept for DEBUG."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from engine.local import vllm_logging


@pytest.fixture(autouse=True)
def _same_factory_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)


def test_warnings_that_nobody_can_act_on_are_of_the_level_debug(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warnings, "filterwarnings", lambda *arguments, **more: None)
        environment: dict[str, str] = {}
        vllm_logging.lower_warnings(environment)
    assert environment == {"TORCH_CPP_LOG_LEVEL": "ERROR"}
    log = logging.getLogger("vllm.of.a.test")
    log.setLevel(logging.INFO)
    log.warning("%s is not found in LD_PRELOAD. For best performance, …", "libfast")
    log.info("Triton is installed but 0 active driver(s) found (expected 1).")
    log.warning("The model's context is shorter than asked for.")
    log.error("Triton is installed, and it broke.")
    levels = [record.levelname for record in caplog.records if record.name == log.name]
    assert levels == ["DEBUG", "DEBUG", "WARNING", "ERROR"]


def test_debug_shows_all_that_libraries_say() -> None:
    environment = {"VLLM_LOGGING_LEVEL": "DEBUG"}
    vllm_logging.lower_warnings(environment)
    assert environment == {"VLLM_LOGGING_LEVEL": "DEBUG"}
