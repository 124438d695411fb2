"""What of `omni_cpu` can be checked without vLLM-Omni: its imports, its entry points and its stand-in modules."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

import omni_cpu
from omni_cpu import serve
from omni_cpu.torch_extensions import Finder, install
from tests.unit.test_layers import MAY_IMPORT, ROOT, imported


def test_plugin_does_not_know_the_server() -> None:
    wrong = [
        f"{source.name} imports {module}"
        for source in (ROOT / "omni_cpu").rglob("*.py")
        for module in imported(source)
        if module.partition(".")[0] in MAY_IMPORT
    ]
    assert wrong == []


def test_entry_points_exist() -> None:
    project = tomllib.loads((ROOT / "omni_cpu" / "pyproject.toml").read_text("utf-8"))["project"]
    for entry_points in project["entry-points"].values():
        for target in entry_points.values():
            module, _, function = target.partition(":")
            assert module == "omni_cpu"
            assert callable(getattr(omni_cpu, function))


@pytest.mark.parametrize(
    ("stored", "given", "arguments"),
    [
        ("F32", (), ["--dtype", "float32"]),
        ("BF16", (), ["--dtype", "bfloat16"]),
        ("F8_E4M3", (), []),
        ("F32", ("--dtype", "bfloat16"), []),
        ("F32", ("--dtype=bfloat16",), []),
    ],
)
def test_weights_are_served_in_the_type_they_are_stored_in(
    tmp_path: Path, stored: str, given: Sequence[str], arguments: list[str]
) -> None:
    header = json.dumps({"__metadata__": {}, "a": {"dtype": stored, "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "transformer").mkdir()
    weights = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert serve._dtype_arguments(str(tmp_path), given) == arguments


@pytest.mark.parametrize(
    ("model", "config", "given", "arguments"),
    [
        ("folder", '{"model_type": "omnivoice"}', (), ["--distributed-executor-backend", "uni"]),
        ("folder", '{"model_type": "omnivoice"}', ("--distributed-executor-backend=mp",), []),
        ("folder", '{"model_type": "qwen3"}', (), []),
        ("folder", None, (), []),
        ("k2-fsa/OmniVoice", None, (), ["--distributed-executor-backend", "uni"]),
    ],
)
def test_model_of_speech_stays_in_the_process(
    tmp_path: Path, model: str, config: str | None, given: Sequence[str], arguments: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    if config is not None:
        (tmp_path / "folder" / "config.json").write_text(config)
    name = str(tmp_path / model) if model == "folder" else model
    assert serve._executor_arguments(name, given) == arguments


def test_every_requirement_is_exact_and_has_a_reason() -> None:
    lines = (ROOT / "requirements-omni-cpu.txt").read_text("utf-8").splitlines()[1:]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+ +# .+", line), line


def test_torchaudio_gets_a_module_that_says_there_is_no_compiled_half() -> None:
    spec = Finder().find_spec("torchaudio._extension")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._IS_TORCHAUDIO_EXT_AVAILABLE is False

    @module.fail_if_no_align  # type: ignore[untyped-decorator]
    def align() -> None: ...

    with pytest.raises(RuntimeError, match=r"align needs torchaudio's compiled library"):
        align()


def test_other_modules_are_found_by_others() -> None:
    assert Finder().find_spec("torchaudio") is None
    assert Finder().find_spec("json") is None


def test_finder_is_installed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    install()
    install()
    assert sum(isinstance(finder, Finder) for finder in sys.meta_path) == 1
