"""What all tests share: no settings from outside, no end of the test process, and no unexplained skip in CI."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator

import pytest

from tests.allowed_skips import forbid_other_skips

OURS = ("VLLM_", "OMNI_", "HF_", "HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME", "GPU_IDLE")
WATCHED_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGIO, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides settings that the person who runs the tests has exported."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _test_process_stays_alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test that ends the process of the tests, or leaves a timer or a signal handler that can.

    Without this, the run stops in the middle and reports nothing. Forked children may still end themselves.
    """
    test_pid, real_exit, real_kill = os.getpid(), os._exit, os.kill

    def exit_child(status: int) -> None:
        assert os.getpid() != test_pid, f"the code under test called os._exit({status}) in the process of the tests"
        real_exit(status)

    def kill_other(pid: int, number: int) -> None:
        assert number == 0 or pid != test_pid, f"the code under test sent signal {number} to the process of the tests"
        real_kill(pid, number)

    monkeypatch.setattr(os, "_exit", exit_child)
    monkeypatch.setattr(os, "kill", kill_other)
    before = {number: signal.getsignal(number) for number in WATCHED_SIGNALS}
    yield
    changed = [number.name for number, handler in before.items() if signal.getsignal(number) is not handler]
    for number, handler in before.items():
        signal.signal(number, handler)
    assert not changed, f"the test left other handlers for {changed}"
    if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL and signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.setitimer(signal.ITIMER_REAL, 0)
        pytest.fail("the test left a timer that ends the process")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Excludes the collected tests from garbage collection: a test that calls gc.collect() would walk over them all."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Applies the list of allowed skips to tests."""
    return forbid_other_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Applies the list of allowed skips to whole modules."""
    return forbid_other_skips((yield))
