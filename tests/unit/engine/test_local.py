"""What `LocalEngine` does without vLLM."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import EngineUnavailable
from engine.interface import Control, EngineState
from engine.local import LocalEngine
from settings import EngineSettings

ROOT = Path(__file__).parents[3]
HEAVY = ("vllm", "torch", "numpy", "PIL", "pydantic", "transformers")


def test_importing_and_asking_for_the_status_costs_nothing_heavy() -> None:
    program = (
        "import sys; from engine.local import LocalEngine; from settings import EngineSettings; "
        f"LocalEngine(EngineSettings()).status(); print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_before_a_load_only_the_name_is_known() -> None:
    status = LocalEngine(EngineSettings()).status()
    assert (status.state, status.model_name, status.max_model_len) == (EngineState.UNLOADED, "demo-vlm", None)


def test_a_load_that_fails_is_shown_in_the_status(tmp_path: Path) -> None:
    engine = LocalEngine(EngineSettings(model_name=str(tmp_path / "none")))
    with pytest.raises(EngineUnavailable, match=r"^Failed to initialize vLLM: there is no model folder") as caught:
        engine.load()
    assert (engine.status().state, engine.status().error) == (EngineState.FAILED, str(caught.value))
    engine.release()
    assert (engine.status().state, engine.status().error) == (EngineState.UNLOADED, None)


def test_nothing_to_answer_loads_nothing() -> None:
    engine = LocalEngine(EngineSettings())
    assert engine.generate([], Control()) == []
    assert engine.status().state is EngineState.UNLOADED


def test_an_unused_engine_closes_at_once() -> None:
    engine = LocalEngine(EngineSettings())
    before = time.monotonic()
    engine.close()
    engine.close()
    assert time.monotonic() - before < 0.1
    with pytest.raises(EngineUnavailable, match="shutting down"):
        engine.load()
