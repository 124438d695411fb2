"""int8 weights and compiled code on a CPU, with the bundled model: made, kept, loaded, and left out where need be."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cpu import int8
from tests.e2e.server_process import LOAD_S, SERVER, Json, ServerProcess, client_environment
from tests.e2e.tiny_adapters import random_adapter

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here"),
    pytest.mark.timeout(2 * LOAD_S),
]

CHAT: Json = {
    "messages": [{"role": "user", "content": "What can you do?"}],
    "max_tokens": 24,
    "temperature": 0,
    "ignore_eos": True,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which vLLM keeps what it makes; empty at first."""
    return tmp_path_factory.mktemp("vllm-cache")


@pytest.fixture(scope="module")
def compiled(model: dict[str, str], cache: Path) -> Iterator[dict[str, str]]:
    """The settings of a model for which the command `compile` has made code."""
    settings = {**model, "VLLM_CACHE_ROOT": str(cache), "VLLM_CPU_INT8": "on"}
    done = subprocess.run(
        [sys.executable, str(SERVER), "compile"],
        env=client_environment(settings),
        capture_output=True,
        timeout=2 * LOAD_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"Compiled code is kept in {cache}" in done.stdout
    yield settings
    shutil.rmtree(cache)


def answer(settings: dict[str, str]) -> tuple[str, str, str | None]:
    """The text that a new server answers, its log, and its model's quantization."""
    with ServerProcess(settings) as server:
        server.initialize()
        text = server.result("chat_completion", CHAT, timeout_s=LOAD_S)["text"]
        quantization = server.result("model_info")["quantization"]
        return text, server.stderr, quantization


def test_int8_weights_answer(model: dict[str, str]) -> None:
    text, log, quantization = answer({**model, "VLLM_CPU_INT8": "on"})
    assert text.strip()
    assert quantization == "cpu_int8"
    assert "cannot become int8" not in log


def test_kept_code_is_loaded(compiled: dict[str, str]) -> None:
    text, log, quantization = answer({**compiled, "VLLM_COMPILE": "auto"})
    assert text.strip()
    assert quantization == "cpu_int8"
    assert "runs with compiled code." in log
    assert "saved AOT compiled function" not in log


def test_model_runs_without_code_where_none_is_kept(compiled: dict[str, str]) -> None:
    text, log, _ = answer({**compiled, "VLLM_COMPILE": "auto", "VLLM_MAX_MODEL_LEN": "1000"})
    assert text.strip()
    assert "there is no code yet; `vllm_server.py compile` makes it." in log


def test_model_runs_without_code_where_it_does_not_load(compiled: dict[str, str], cache: Path) -> None:
    kept = [path for path in cache.rglob("model") if path.is_file()]
    (note,) = (cache / "torch_compile_cache" / "mcp_server").iterdir()
    assert kept
    for path in kept:
        path.rename(path.with_name("moved"))
    try:
        text, log, _ = answer({**compiled, "VLLM_COMPILE": "auto"})
    finally:
        for path in kept:
            path.with_name("moved").rename(path)
    assert not note.exists(), "the next load would try again"
    note.write_text("for the other tests")
    assert text.strip()
    assert "the code does not load; `vllm_server.py compile` makes it again." in log
    assert "saved AOT compiled function" not in log


def test_model_runs_without_code_where_there_is_no_compiler(compiled: dict[str, str]) -> None:
    text, log, _ = answer({**compiled, "VLLM_COMPILE": "auto", "CXX": "no-such-compiler"})
    assert text.strip()
    assert "VLLM_COMPILE does nothing" in log
    assert "torch finds no C++ compiler" in log


def test_models_with_and_without_code_answer_side_by_side(compiled: dict[str, str], model: dict[str, str]) -> None:
    plain = {"model": model["VLLM_MODEL_NAME"], "cpu_int8": False, "compile": "off"}
    settings = {**compiled, "VLLM_COMPILE": "auto", "VLLM_MODELS": json.dumps({"plain": plain})}
    with ServerProcess(settings) as server:
        server.initialize()
        alone = [server.result("chat_completion", {**CHAT, **more})["text"] for more in ({}, {"model": "plain"})]
        again = [server.result("chat_completion", {**CHAT, **more})["text"] for more in ({}, {"model": "plain"})]
        assert again == alone
        assert server.stderr.count("runs with compiled code.") == 1
        assert "VLLM_COMPILE does nothing" not in server.stderr


def test_adapters_work_with_int8_weights_and_without_code(
    compiled: dict[str, str], model: dict[str, str], tmp_path: Path
) -> None:
    folder = random_adapter(Path(model["VLLM_MODEL_NAME"]), tmp_path / "loud", rank=4, seed=1)
    with ServerProcess({**compiled, "VLLM_COMPILE": "auto", "VLLM_LORA_MODULES": f"loud={folder}"}) as server:
        server.initialize()
        plain, loud = (server.result("chat_completion", {**CHAT, **more})["text"] for more in ({}, {"lora": "loud"}))
        assert plain != loud
        assert "vLLM compiles no model with LoRA adapters on a CPU." in server.stderr


@pytest.mark.filterwarnings("ignore")  # of torch
def test_int8_values_are_the_nearest_ones() -> None:
    import torch

    weight = torch.randn(7, 33, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    weight[3] = 0
    values, scale = int8.quantized(weight)
    assert (values.dtype, values.shape, scale.dtype, scale.shape) == (torch.int8, (7, 33), torch.float32, (7, 1))
    assert bool(((values * scale - weight.float()).abs() <= scale * 0.501).all())
    assert values.abs().amax(dim=1).tolist() == [127, 127, 127, 0, 127, 127, 127]


def test_compile_says_that_it_needs_a_compiler(model: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SERVER), "compile"],
        env=client_environment({**model, "CXX": "no-such-compiler"}),
        capture_output=True,
        timeout=LOAD_S,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "No code can be compiled: torch finds no C++ compiler" in done.stderr
