"""The end of `LocalEngine` and its processes: when it is closed, and when its core or its own process is killed.

Run as a program (`python -m tests.e2e.test_engine_end WHAT MODEL`) it is the server whose engine core or own process is
killed: those tests need a process of their own.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineDied, EngineUnavailable, GenerationCancelled
from engine.interface import Control
from engine.local import reaper
from engine.local.engine import LocalEngine
from sandbox.cancellation import Cancellation
from tests.e2e import tiny_models
from tests.e2e.test_engine import answer, ask, model_of, settings

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries that vLLM brings
]


def test_close_does_not_wait_for_a_generation() -> None:
    engine = LocalEngine(settings(tiny_models.text_model()), log_level="WARNING")
    begun, over = threading.Event(), Cancellation()

    def listens_slowly(index: int, text: str, completion_tokens: int) -> None:
        begun.set()
        over.wait(10)

    def works() -> None:
        with pytest.raises(GenerationCancelled):
            engine.generate([ask("x", max_tokens=900)], Control(over, on_text=listens_slowly))

    worker = threading.Thread(target=works)
    worker.start()
    assert begun.wait(60)
    before = time.monotonic()
    engine.close()
    assert time.monotonic() - before < 5  # the listener takes 10 s
    over.set()
    worker.join()
    engine.close()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        engine.generate([ask("x")], Control())


def test_a_killed_engine_core_is_told_and_replaced_and_close_leaves_nothing() -> None:
    run = _program("recover", tiny_models.text_model())
    out, _ = run.communicate(timeout=280)
    told = json.loads(out.splitlines()[-1])
    assert len(told["children"]) >= 2  # the core and the tracker of shared memory, or more
    assert told["died"].startswith("The engine stopped working")
    assert told["again"] == told["first"]
    assert told["asleep"] == "CoreGone"
    assert told["after_close"] == []
    assert told["close_s"] < 2
    assert run.returncode == 0
    assert _gone(told["mark"])


def test_nothing_outlives_a_killed_server() -> None:
    run = _program("wait", tiny_models.text_model())
    assert run.stdout is not None
    told = json.loads(run.stdout.readline())
    assert len(told["children"]) >= 2
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=10)
    assert _gone(told["mark"])


def _program(what: str, model: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.test_engine_end", what, str(model)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _gone(mark: str, within_s: float = 2.0) -> bool:
    give_up = time.monotonic() + within_s
    while reaper.marked_processes(mark):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def main(what: str, model: str) -> None:
    """The program: an engine with its core in a process of its own."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    engine = LocalEngine(settings(Path(model)), log_level="WARNING")
    first = answer(engine, "hi").text
    told: dict[str, Any] = {"mark": engine._children._mark, "first": first, "children": engine._children.ids()}
    if what == "wait":
        print(json.dumps(told), flush=True)
        time.sleep(600)
    for child in told["children"]:
        if not reaper.is_tracker(child):
            os.kill(child, signal.SIGKILL)
    try:
        answer(engine, "hi")
    except EngineDied as died:
        told["died"] = str(died)
    told["again"] = answer(engine, "hi").text
    told["asleep"] = _sleep_with_a_dying_core(engine)
    before = time.monotonic()
    engine.close()
    told["close_s"] = time.monotonic() - before
    told["after_close"] = [
        child for child in reaper.marked_processes(engine._children._mark) if not reaper.is_tracker(child)
    ]
    print(json.dumps(told), flush=True)


def _sleep_with_a_dying_core(engine: LocalEngine) -> str:
    """Sends the engine to sleep while its core stands still and then is killed; returns what that raises."""
    cores = [child for child in engine._children.ids() if not reaper.is_tracker(child)]
    for core in cores:
        os.kill(core, signal.SIGSTOP)

    def kill() -> None:
        for core in cores:
            os.kill(core, signal.SIGKILL)

    threading.Timer(1.0, kill).start()
    try:
        model_of(engine).adapter.sleep()
    except Exception as error:
        return type(error).__name__
    return "nothing"


if __name__ == "__main__":
    main(*sys.argv[1:])
