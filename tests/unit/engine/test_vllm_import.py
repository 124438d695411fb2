"""The import of vLLM: once at a time, without the garbage collector, and with its failure left to the first call."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from engine import vllm_import
from engine.local import loader
from settings import EngineSettings


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    gc.unfreeze()
    yield
    assert gc.isenabled()
    gc.unfreeze()


def test_failure_of_an_import_ahead_is_raised_by_the_first_import_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def fails_once() -> None:
        tries.append("import")
        if len(tries) == 1:
            raise ImportError("broken")

    monkeypatch.setattr(vllm_import, "_import", fails_once)
    assert not vllm_import.import_ahead()
    with pytest.raises(ImportError, match="broken"):
        vllm_import.import_vllm()
    vllm_import.import_vllm()
    assert tries == ["import", "import"]


def test_import_waits_for_the_one_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()
    order: list[str] = []

    def slow() -> None:
        begun.set()
        may_end.wait(60)
        order.append("import")

    monkeypatch.setattr(vllm_import, "_import", slow)
    ahead = threading.Thread(target=vllm_import.import_ahead)
    ahead.start()
    assert begun.wait(60)

    def call() -> None:
        vllm_import.import_vllm()
        order.append("call")

    second = threading.Thread(target=call)
    second.start()
    assert order == []
    may_end.set()
    for thread in (ahead, second):
        thread.join(60)
    assert order == ["import", "import", "call"]


def test_nothing_is_collected_during_the_import_and_later_nothing_that_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with vllm_import._without_collections():
        assert not gc.isenabled()
        monkeypatch.setitem(sys.modules, "a_module_of_this_test", ModuleType("a_module_of_this_test"))
    assert gc.get_freeze_count() > 0


def test_collector_is_as_before_where_nothing_is_imported_or_the_import_fails() -> None:
    with pytest.raises(ImportError), vllm_import._without_collections():
        raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_nothing_is_imported_ahead_where_vllm_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "missing_vllm", lambda: "vLLM is not installed")
    monkeypatch.setattr(vllm_import, "import_ahead", lambda: pytest.fail("imported"))
    loader.import_ahead(EngineSettings(), "INFO")
