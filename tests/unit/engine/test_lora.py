"""What is read of LoRA adapters before vLLM is imported, and what it is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineUnavailable, InvalidGeneration
from engine.interface import EngineState
from engine.local.engine import LocalEngine
from engine.local.lora import LoraAdapters, engine_arguments, ranks_of
from settings import EngineSettings

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")

RANKS = (1, 8, 16, 32)


def adapter(folder: Path, config: Any) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(folder)


def test_ranks_are_the_largest_of_each_adapter(tmp_path: Path) -> None:
    one = adapter(tmp_path / "one", {"r": 4})
    two = adapter(tmp_path / "two", {"r": 4, "rank_pattern": {"q_proj": 12}})
    assert ranks_of({"one": one, "two": two}) == {"one": 4, "two": 12}


def test_engine_gets_the_smallest_rank_that_is_enough() -> None:
    assert engine_arguments({}, RANKS) == {}
    assert engine_arguments({"a": 1}, RANKS)["max_lora_rank"] == 1
    assert engine_arguments({"a": 4, "b": 9}, RANKS) == {
        "enable_lora": True,
        "max_loras": 1,
        "max_cpu_loras": 2,
        "max_lora_rank": 16,
    }


def test_rank_above_all_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="the adapter b has rank 33, and this vLLM takes ranks up to 32"):
        engine_arguments({"a": 1, "b": 33}, RANKS)


@pytest.mark.parametrize(
    "config", ["", "[]", "{", "null", "{}", '{"r": "8"}', '{"r": 0}', '{"r": 8, "rank_pattern": 1}']
)
def test_adapter_without_a_rank_is_refused(tmp_path: Path, config: str) -> None:
    folder = adapter(tmp_path / "a", config)
    with pytest.raises(EngineUnavailable, match=r"does not tell its rank \(r\)\. Change VLLM_LORA_MODULES\.$"):
        ranks_of({"a": folder})


def test_missing_adapter_is_a_load_error_before_anything_is_imported(tmp_path: Path) -> None:
    engine = LocalEngine(EngineSettings(lora_modules={"tone": "~/no/such/adapter"}))
    with pytest.raises(EngineUnavailable) as caught:
        engine.load()
    assert str(caught.value) == (
        "Failed to initialize vLLM: the adapter tone=~/no/such/adapter cannot be used: there is no such folder. "
        "Change VLLM_LORA_MODULES."
    )
    assert engine.status().state is EngineState.FAILED
    with pytest.raises(EngineUnavailable, match=r"the folder has no adapter_config\.json"):
        ranks_of({"a": str(tmp_path)})


def test_each_name_has_its_own_lasting_number() -> None:
    for _ in range(2):
        adapters = LoraAdapters({"a": "/x", "b": "/y"})
        assert (adapters.request("a"), adapters.request("b")) == (("a", 1, "/x"), ("b", 2, "/y"))
    assert adapters.request(None) is None
    with pytest.raises(InvalidGeneration, match="no adapter 'c'"):
        adapters.request("c")


HIDDEN_SIZE = 160


def accepts(request: Any) -> None:
    """vLLM takes the adapter."""


def weights(folder: Path, shapes: dict[str, list[int]]) -> str:
    folder.mkdir()
    header = json.dumps({"__metadata__": {}, **{name: {"shape": shape} for name, shape in shapes.items()}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return str(folder)


def test_adapter_of_a_model_of_another_width_is_named_at_the_load(tmp_path: Path) -> None:
    fits = weights(tmp_path / "a", {"x.q_proj.lora_A.weight": [4, 160], "x.o_proj.lora_A.weight": [4, 48]})
    other = weights(tmp_path / "b", {"x.q_proj.lora_A.weight": [4, 48], "x.o_proj.lora_A.weight": [4, 160]})
    LoraAdapters({"a": fits}).load(HIDDEN_SIZE, accepts)
    with pytest.raises(EngineUnavailable, match="its weights are not made for a model of width 160"):
        LoraAdapters({"a": fits, "b": other}).load(HIDDEN_SIZE, accepts)


@pytest.mark.parametrize("data", [b"", b"\xff" * 9, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{"])
def test_weights_that_are_none_are_left_to_vllm(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(data)
    LoraAdapters({"a": str(tmp_path), "b": str(tmp_path / "none")}).load(HIDDEN_SIZE, accepts)


def test_adapter_that_vllm_refuses_is_named_at_the_load() -> None:
    def refuses(request: Any) -> None:
        if request[0] == "b":
            raise ValueError("wrong shape at 0x7f0012345678")

    with pytest.raises(EngineUnavailable) as caught:
        LoraAdapters({"a": "/x", "b": "/y"}).load(HIDDEN_SIZE, refuses)
    assert str(caught.value) == (
        "Failed to initialize vLLM: the adapter b=/y cannot be used: wrong shape. Change VLLM_LORA_MODULES."
    )
