"""What is held and free, as the system reports it."""

import functools
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from engine.hardware import memory
from engine.hardware.memory import MemoryUse, memory_use
from tests.unit.engine.fake_nvml import GB, Card, FakeNvml

SLEEPER = "import sys; data = b'x' * (60 << 20); print(flush=True); sys.stdin.read()"


def test_processes_are_measured_together() -> None:
    alone = memory_use([os.getpid()])
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        both = memory_use([os.getpid(), child.pid])
        child.communicate()
    assert alone.process_bytes is not None
    assert both.process_bytes is not None
    assert both.process_bytes - alone.process_bytes > 60 << 20
    assert alone.free_bytes


def test_process_that_has_ended_holds_nothing() -> None:
    assert memory_use([]).process_bytes is None
    assert memory_use([1 << 30]).process_bytes is None
    assert memory_use([os.getpid(), 1 << 30]).process_bytes


def test_gpus_are_summed_as_far_as_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [(os.getpid(), 3 * GB)]
    cards = Card(used=4 * GB, processes=list(mine)), Card(used=5 * GB, processes=None)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*cards))
    use = memory_use([os.getpid()])
    assert (use.gpu_bytes, use.gpu_used_bytes) == (3 * GB, 9 * GB)
    without = MemoryUse(process_bytes=1, free_bytes=1, devices=())
    assert (without.gpu_bytes, without.gpu_used_bytes) == (None, None)


def test_what_vllm_remembers_of_tokenizers_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    remember = functools.lru_cache(lambda tokenizer: tokenizer)
    other = functools.lru_cache(lambda platform: platform)
    monkeypatch.setitem(sys.modules, "vllm.tokenizers.some", SimpleNamespace(remember=remember, figure=1))
    monkeypatch.setitem(sys.modules, "vllm.platforms.some", SimpleNamespace(other=other))
    for cached in (remember, other):
        cached("x")
    memory.give_back_memory()
    assert (remember.cache_info().currsize, other.cache_info().currsize) == (0, 1)


def test_memory_can_be_given_back_without_torch() -> None:
    memory.give_back_memory()
