"""How settings become vLLM's environment and arguments."""

import os
from pathlib import Path
from typing import Any

import pytest

import settings as configuration
from engine.arguments import check_arguments, llm_arguments, prepare_environment, shown_name
from engine.errors import EngineUnavailable
from settings import EngineSettings

GIB = 1 << 30


def on_cpu(**given: Any) -> dict[str, Any]:
    settings = EngineSettings(**{"model_name": "org/model", **given})
    return llm_arguments(settings, on_cpu=True, free_bytes=8 * GIB, for_adapters={})


def on_gpu(**given: Any) -> dict[str, Any]:
    settings = EngineSettings(**{"model_name": "org/model", **given})
    return llm_arguments(settings, on_cpu=False, free_bytes=8 * GIB, for_adapters={})


def test_on_a_cpu_the_cache_is_a_quarter_of_the_free_memory() -> None:
    assert on_cpu()["kv_cache_memory_bytes"] == 2 * GIB
    assert "gpu_memory_utilization" not in on_cpu()


def test_the_bundled_model_needs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(configuration, "DEMO_MODEL", str(tmp_path))
    assert on_cpu(model_name=str(tmp_path))["kv_cache_memory_bytes"] == 256 << 20


def test_the_setting_sizes_the_cache() -> None:
    assert on_cpu(cpu_kvcache_space_gib=0.5)["kv_cache_memory_bytes"] == GIB // 2


def test_cpu_and_gpu_have_their_own_defaults() -> None:
    assert (on_cpu()["enforce_eager"], on_cpu()["max_num_seqs"]) == (True, 32)
    assert on_gpu()["enforce_eager"] is False
    assert "max_num_seqs" not in on_gpu()
    assert on_gpu()["gpu_memory_utilization"] == 0.9
    assert "kv_cache_memory_bytes" not in on_gpu()


@pytest.mark.parametrize("wanted", [True, False])
def test_sleep_mode_is_asked_for_only_where_it_exists(wanted: bool) -> None:
    settings = EngineSettings(model_name="org/model", enable_sleep_mode=wanted)
    arguments = llm_arguments(settings, on_cpu=False, free_bytes=0, for_adapters={}, can_sleep=True)
    assert arguments["enable_sleep_mode"] is wanted
    assert "enable_sleep_mode" not in on_cpu(enable_sleep_mode=wanted)


def test_settings_win_over_defaults_and_extra_arguments_over_settings() -> None:
    assert on_cpu(enforce_eager=False, max_num_seqs=2)["max_num_seqs"] == 2
    assert on_cpu(enforce_eager=False)["enforce_eager"] is False
    assert on_cpu(max_num_seqs=2, extra_engine_args={"max_num_seqs": 3})["max_num_seqs"] == 3


def test_only_pictures_are_allowed_for() -> None:
    assert on_cpu(max_images_per_prompt=2)["limit_mm_per_prompt"] == {"image": 2, "video": 0, "audio": 0}


def test_what_is_not_set_is_left_to_vllm() -> None:
    assert not {"max_model_len", "quantization", "mm_processor_kwargs"} & on_gpu().keys()


def test_an_unknown_extra_argument_is_named_with_the_nearest_one() -> None:
    with pytest.raises(EngineUnavailable, match=r"^Failed to initialize vLLM: .*'max_num_seq'.*'max_num_seqs'"):
        check_arguments(EngineSettings(extra_engine_args={"max_num_seq": 1}), {"max_num_seqs"}, ())


def test_an_unknown_quantization_lists_the_known_ones() -> None:
    with pytest.raises(EngineUnavailable, match=r"'gguf'.*awq, fp8"):
        check_arguments(EngineSettings(quantization="gguf"), (), ("fp8", "awq"))


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_a_model_is_named(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path if exists else tmp_path / "none"
    with pytest.raises(EngineUnavailable, match=r"^Failed to initialize vLLM: .*VLLM_MODEL_NAME"):
        on_cpu(model_name=str(folder))


def test_the_bundled_model_is_shown_without_its_folder() -> None:
    assert shown_name(EngineSettings()) == "demo-vlm"
    assert shown_name(EngineSettings(model_name="org/model")) == "org/model"


def test_the_environment_keeps_vllm_off_stdout_and_the_network(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    prepare_environment(EngineSettings(model_name=str(tmp_path), hf_token="t"), "WARNING", environment)
    assert environment["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    assert environment["VLLM_LOGGING_LEVEL"] == "WARNING"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == environment["HF_HUB_OFFLINE"] == "1"
    assert environment["HF_TOKEN"] == "t"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in environment


@pytest.mark.parametrize("given", [None, "", "/opt/tools", ":/opt/tools:/bin"])
def test_programs_of_the_system_are_found_behind_those_of_the_host(given: str | None) -> None:
    environment = {} if given is None else {"PATH": given}
    prepare_environment(EngineSettings(), "INFO", environment)
    folders = environment["PATH"].split(os.pathsep)
    assert {"/bin", "/usr/bin"} <= set(folders)
    assert len(set(folders)) == len(folders)
    assert "" not in folders, "that would be the working folder"
    assert not given or folders[0] == "/opt/tools"


def test_few_kernels_are_kept_unless_the_environment_says_how_many() -> None:
    given: dict[str, str] = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}
    environment: dict[str, str] = {}
    for each in (given, environment):
        prepare_environment(EngineSettings(), "INFO", each)
    assert given["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    assert environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"


def test_values_that_crash_vllm_do_not_reach_it() -> None:
    environment = {"VLLM_USE_V2": " ", "VLLM_CPU_KVCACHE_SPACE": "0.5", "VLLM_ENABLE_V1_MULTIPROCESSING": "yes"}
    prepare_environment(EngineSettings(model_name="org/model", multiprocessing=True), "INFO", environment)
    assert "VLLM_USE_V2" not in environment
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"
    assert "HF_HUB_OFFLINE" not in environment
