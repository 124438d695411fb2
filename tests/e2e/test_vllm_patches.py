"""What this server replaces in the installed vLLM: for each patch whether it works, and whether vLLM still needs it.

A test that fails with "can go" means that this vLLM does by itself what the patch is for: delete the patch.
"""

from __future__ import annotations

import gc
import importlib.util
import inspect
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.local import loader
from engine.vllm_patches import compiled_code, decoder_prompts, garbage, model_inspection, process_groups
from settings import EngineSettings

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries that vLLM brings
]


@pytest.fixture(scope="module", autouse=True)
def vllm() -> None:
    """vLLM, imported as the server does."""
    loader.import_vllm(EngineSettings(), "WARNING", reloads_kernels=False)


def test_inspect_model_classes_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vllm.model_executor.models import registry

    model = registry.ModelRegistry.models["OPTForCausalLM"]
    needed = "_run_in_subprocess(" in inspect.getsource(type(model).inspect_model_cls)
    assert needed, "vLLM starts no child process here any more: `inspect_model_classes_here` can go"
    monkeypatch.setattr(registry, "_run_in_subprocess", registry._run_in_subprocess)  # undoes what follows
    model_inspection.inspect_model_classes_here()
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))  # where vLLM keeps what it found in earlier processes
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a child process was started"))
    assert model.inspect_model_cls().architecture == "OPTForCausalLM"


def test_let_compiled_code_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a model's code is kept and loaded again is tested by `test_compiled_code`."""
    import torch
    from vllm.compilation import caching, decorators

    load = inspect.getsource(decorators._try_load_aot_compiled_fn)
    needed = "load_compiled_function(" in load and "_artifacts.compiled_fn.finalize_loading(" in load
    assert needed, "vLLM calls no method that only its own functions have: `let_compiled_code_load` can go"
    assert hasattr(caching.VllmSerializableFunction, "finalize_loading")

    class Loaded:
        class _artifacts:
            class compiled_fn:
                pass

    monkeypatch.setattr(torch.compiler, "load_compiled_function", lambda file, **options: Loaded)
    compiled_code.let_compiled_code_load()
    compiled_code.let_compiled_code_load()
    function = torch.compiler.load_compiled_function(None)
    function._artifacts.compiled_fn.finalize_loading(None)


def test_process_groups_kept() -> None:
    """That other engines go on is tested by `test_several_models`."""
    from vllm.v1.engine import core

    source = inspect.getsource(core.EngineCore.shutdown)
    needed = "cleanup_dist_env_and_memory(" in source
    assert needed, "the end of an engine leaves the process groups alone: `process_groups_kept` can go"
    clean_up = core.cleanup_dist_env_and_memory
    with process_groups.process_groups_kept():
        assert core.cleanup_dist_env_and_memory is not clean_up
        core.cleanup_dist_env_and_memory()
    assert core.cleanup_dist_env_and_memory is clean_up


def test_garbage_left() -> None:
    from vllm.distributed import parallel_state

    needed = "gc.collect()" in inspect.getsource(parallel_state.cleanup_dist_env_and_memory)
    assert needed, "the end of an engine collects no garbage: `garbage_left` can go"
    collect = gc.collect
    with garbage.garbage_left():
        assert gc.collect() == 0
        assert gc.collect is not collect
    assert gc.collect is collect


def test_keep_decoder_prompts() -> None:
    from vllm.inputs.engine import build_enc_dec_input, tokens_input
    from vllm.multimodal.processing import EncDecMultiModalProcessor

    given = [50361, 7, 50258]
    made = build_enc_dec_input(tokens_input([]), tokens_input(given), 50258)
    needed = made["decoder_prompt"]["prompt_token_ids"][:2] == [50258, 50361]
    assert needed, "vLLM leaves prompts with earlier text alone: `keep_decoder_prompts` can go"
    assert EncDecMultiModalProcessor.skip_decoder_start_token is False
    processor = SimpleNamespace()
    decoder_prompts.keep_decoder_prompts(SimpleNamespace(renderer=SimpleNamespace(get_mm_processor=lambda: processor)))
    kept = build_enc_dec_input(tokens_input([]), tokens_input(given), 50258, processor.skip_decoder_start_token)
    assert kept["decoder_prompt"]["prompt_token_ids"] == given


def test_run_eagerly_without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.compilation import decorators

    source = inspect.getsource(decorators)
    needed = "_try_load_aot_compiled_fn(self, " in source and "self.aot_compile(*args, **kwargs)" in source
    assert needed, "vLLM compiles in another way: see whether `run_eagerly_without_compiled_code` can go"

    class Model:
        def forward(self, tokens: int, *, positions: int) -> tuple[int, int]:
            return tokens, positions

    monkeypatch.setattr(decorators, "_try_load_aot_compiled_fn", lambda model, path: None)
    before = decorators._try_load_aot_compiled_fn
    with compiled_code.run_eagerly_without_compiled_code():
        function = decorators._try_load_aot_compiled_fn(Model(), "no such file")
    assert function(Model(), 1, positions=2) == (1, 2)
    assert decorators._try_load_aot_compiled_fn is before
