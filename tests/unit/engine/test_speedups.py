"""What `VLLM_CPU_INT8` and `VLLM_COMPILE` change in the arguments of the engine, and when they do nothing."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from engine.cpu import compiled_code, int8, speedups
from engine.errors import EngineUnavailable
from settings import EngineSettings
from settings.engine import COMPILE_NOW

ARGUMENTS = {"model": "some/model", "enforce_eager": True}


class Made:
    """Makes engines, and says with which arguments; `loads_code` is whether code that is kept loads."""

    def __init__(self, *, loads_code: bool = True) -> None:
        self.calls: list[dict[str, Any]] = []
        self.n_loaded = 0
        self._loads_code = loads_code

    def __call__(self, **arguments: Any) -> str:
        self.calls.append(arguments)
        self.n_loaded += not arguments["enforce_eager"] and self._loads_code
        return "engine"


class Vllm:
    """Stands in for what the speed-ups ask of vLLM and torch.

    Attributes: `note`, the file that says that there is code; `compiler`, why there is no compiler.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, note: Path, made: Made) -> None:
        self.note, self.made = note, made
        self.compiler: str | None = None
        for name, stand_in in {
            "note_path": lambda arguments: str(note),
            "missing_compiler": lambda: self.compiler,
            "n_loaded": lambda: made.n_loaded,
            "n_kept": lambda: made.n_loaded,
        }.items():
            monkeypatch.setattr(compiled_code, name, stand_in)
        monkeypatch.setattr(int8, "register", lambda: None)
        monkeypatch.setattr(speedups, "let_compiled_code_load", lambda: None)
        monkeypatch.setattr(speedups, "run_eagerly_without_compiled_code", contextlib.nullcontext)
        speedups._say_once.cache_clear()


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Vllm:
    """vLLM on a CPU with a compiler, without code."""
    return Vllm(monkeypatch, tmp_path / "notes" / "note", Made())


def run(vllm: Vllm, arguments: dict[str, Any] = ARGUMENTS, *, on_cpu: bool = True, **settings: Any) -> dict[str, Any]:
    """Makes an engine; returns the arguments of the last try."""
    chosen = EngineSettings(model_name="some/model", **settings)
    assert speedups.make_llm(vllm.made, arguments, chosen, on_cpu=on_cpu) == "engine"
    return vllm.made.calls[-1]


def test_nothing_changes_by_default(vllm: Vllm, caplog: pytest.LogCaptureFixture) -> None:
    assert run(vllm) == ARGUMENTS
    assert caplog.messages == []


def test_int8_is_a_quantization_method(vllm: Vllm) -> None:
    assert run(vllm, cpu_int8=True) == {**ARGUMENTS, "quantization": "cpu_int8"}


def test_own_quantization_wins_over_int8(vllm: Vllm, caplog: pytest.LogCaptureFixture) -> None:
    arguments = {**ARGUMENTS, "quantization": "fp8"}
    assert run(vllm, arguments, cpu_int8=True) == arguments
    assert "VLLM_EXTRA_ENGINE_ARGS has a quantization of its own" in caplog.text


def test_quantized_model_loads_as_it_is(
    vllm: Vllm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Quantized(Made):
        def __call__(self, **arguments: Any) -> str:
            if "quantization" in arguments:
                raise ValueError("method in the model config (awq) does not match the quantization method in …")
            return super().__call__(**arguments)

    vllm.made = Quantized()
    assert run(vllm, cpu_int8=True) == ARGUMENTS
    assert "VLLM_CPU_INT8 does nothing for some/model: its weights are quantized already." in caplog.messages


def test_other_failures_are_not_tried_again(vllm: Vllm) -> None:
    def fails(**arguments: Any) -> Any:
        raise ValueError("no such model")

    vllm.made = fails  # type: ignore[assignment]
    with pytest.raises(ValueError, match="no such model"):
        run(vllm, cpu_int8=True)


def test_gpu_has_neither_and_says_so_once(vllm: Vllm, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert run(vllm, cpu_int8=True, compile="auto", on_cpu=False) == ARGUMENTS
    assert caplog.messages == ["VLLM_CPU_INT8 and VLLM_COMPILE are for models on a CPU; here they do nothing."]


def test_code_is_loaded_where_it_is_kept(vllm: Vllm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    compiled_code.write_note(str(vllm.note), "some/model")
    assert run(vllm, compile="auto") == {**ARGUMENTS, "enforce_eager": False}
    assert caplog.messages == ["some/model runs with compiled code."]


def test_model_runs_without_code_before_it_is_made(vllm: Vllm, caplog: pytest.LogCaptureFixture) -> None:
    assert run(vllm, compile="auto") == ARGUMENTS
    assert caplog.messages == [
        "VLLM_COMPILE does nothing for some/model: there is no code yet; `vllm_server.py compile` makes it."
    ]


@pytest.mark.parametrize(
    ("arguments", "compiler", "reason"),
    [
        ({}, "no g++", "torch finds no C++ compiler (no g++)"),
        ({"enable_lora": True}, None, "vLLM compiles no model with LoRA adapters on a CPU"),
        ({"compilation_config": 3}, None, "VLLM_EXTRA_ENGINE_ARGS says how vLLM compiles"),
    ],
)
def test_model_that_cannot_have_code_runs_without(
    vllm: Vllm, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], compiler: str | None, reason: str
) -> None:
    vllm.compiler = compiler
    assert run(vllm, ARGUMENTS | arguments, compile="auto") == ARGUMENTS | arguments
    assert caplog.messages == [f"VLLM_COMPILE does nothing for some/model: {reason}."]
    with pytest.raises(EngineUnavailable, match=re.escape(f"No code can be compiled: {reason}.")):
        run(vllm, ARGUMENTS | arguments, compile=COMPILE_NOW)


def test_code_that_does_not_load_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vllm = Vllm(monkeypatch, tmp_path / "note", Made(loads_code=False))
    compiled_code.write_note(str(vllm.note), "some/model")
    run(vllm, compile="auto")
    assert "the code does not load" in caplog.text
    assert not compiled_code.has_note(str(vllm.note))


def test_compiling_leaves_a_note(vllm: Vllm) -> None:
    assert run(vllm, compile=COMPILE_NOW) == {**ARGUMENTS, "enforce_eager": False}
    assert compiled_code.has_note(str(vllm.note))


def test_code_whose_note_does_not_fit_on_the_disk_is_not_kept(vllm: Vllm) -> None:
    vllm.note.parent.mkdir(parents=True, exist_ok=True)
    vllm.note.symlink_to("/dev/full")
    with pytest.raises(EngineUnavailable, match="cannot be written"):
        run(vllm, compile=COMPILE_NOW)
    assert not compiled_code.has_note(str(vllm.note))
    assert not vllm.note.is_symlink()


def test_model_of_which_nothing_is_compiled_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vllm = Vllm(monkeypatch, tmp_path / "note", Made(loads_code=False))
    with pytest.raises(EngineUnavailable, match="vLLM has compiled nothing of some/model"):
        run(vllm, compile=COMPILE_NOW)
    assert not vllm.note.exists()


def test_gpu_compiles_nothing_to_keep(vllm: Vllm) -> None:
    with pytest.raises(EngineUnavailable, match="Only for a model on a CPU"):
        run(vllm, compile=COMPILE_NOW, on_cpu=False)


@pytest.mark.parametrize(
    ("name", "converted"),
    [
        ("model.layers.0.self_attn.qkv_proj", True),
        ("language_model.model.layers.11.mlp.down_proj", True),
        ("transformer.h.3.attn.c_attn", True),
        ("model.text_model.layers.0.mlp.gate_up_proj", True),
        ("lm_head", False),
        ("model.vision_model.encoder.layers.0.self_attn.qkv_proj", False),
        ("visual.blocks.2.attn.qkv", False),
        ("audio_tower.layers.0.fc1", False),
        ("model.layers.0.mlp.gate", False),
        ("model.connector.modality_projection.proj", False),
    ],
)
def test_only_layers_of_the_decoder_become_int8(name: str, converted: bool) -> None:
    assert int8.is_converted(name) is converted
