"""How settings become vLLM's environment and arguments."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import EngineUnavailable
from engine.local.engine_args import check_arguments, kv_cache_bytes, llm_arguments, prepare_environment
from engine.parts import MAX_FRAME_SIDE
from settings import EngineSettings
from settings.kinds import ModelOptions

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
    monkeypatch.setattr("settings.engine.DEMO_MODEL", str(tmp_path))
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
    extra = {} if wanted else {"enable_sleep_mode": False}
    settings = EngineSettings(model_name="org/model", extra_engine_args=extra)
    arguments = llm_arguments(settings, on_cpu=False, free_bytes=0, for_adapters={}, can_sleep=True)
    assert arguments["enable_sleep_mode"] is wanted
    assert "enable_sleep_mode" not in on_cpu()


def test_extra_arguments_win_over_settings_and_defaults() -> None:
    extra = {"dtype": "float16", "enforce_eager": False, "max_num_seqs": 3, "trust_remote_code": True}
    arguments = on_cpu(dtype="bfloat16", extra_engine_args=extra)
    assert {name: arguments[name] for name in extra} == extra


def test_as_many_images_as_audio_parts_and_videos_are_allowed_for() -> None:
    limits = on_cpu(max_images_per_prompt=2, video_frames=8)["limit_mm_per_prompt"]
    assert limits == {
        "image": 2,
        "audio": 2,
        "video": {"count": 2, "num_frames": 8, "width": MAX_FRAME_SIDE, "height": MAX_FRAME_SIDE},
    }
    assert on_cpu(max_images_per_prompt=0)["limit_mm_per_prompt"] == {"image": 0, "audio": 0, "video": 0}


def test_what_is_not_set_is_left_to_vllm() -> None:
    assert not {"max_model_len", "quantization", "mm_processor_kwargs"} & on_gpu().keys()


def test_an_unknown_extra_argument_is_named_with_the_nearest_one() -> None:
    with pytest.raises(EngineUnavailable, match=r"^Failed to initialize vLLM: .*'max_num_seq'.*'max_num_seqs'"):
        check_arguments(EngineSettings(extra_engine_args={"max_num_seq": 1}), {"max_num_seqs"}, ())


def test_an_unknown_quantization_lists_the_known_ones() -> None:
    with pytest.raises(EngineUnavailable, match=r"'gguf'.*awq, fp8"):
        check_arguments(EngineSettings(extra_engine_args={"quantization": "gguf"}), {"quantization"}, ("fp8", "awq"))


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_a_model_is_named(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path if exists else tmp_path / "none"
    with pytest.raises(EngineUnavailable, match=r"^Failed to initialize vLLM: .*VLLM_MODEL_NAME"):
        on_cpu(model_name=str(folder))


def test_the_bundled_model_is_shown_without_its_folder() -> None:
    assert EngineSettings().shown_name == "demo-vlm"
    assert EngineSettings(model_name="org/model").shown_name == "org/model"


def test_the_environment_keeps_vllm_off_stdout_and_the_network(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    prepare_environment(EngineSettings(model_name=str(tmp_path), hf_token="t"), "WARNING", environment)
    assert environment["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    assert environment["VLLM_LOGGING_LEVEL"] == "WARNING"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == environment["HF_HUB_OFFLINE"] == "1"
    assert environment["HF_TOKEN"] == "t"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in environment


@pytest.mark.parametrize(("other", "is_offline"), [("", True), ("org/model", False)])
def test_the_network_is_allowed_where_one_of_the_models_needs_it(tmp_path: Path, other: str, is_offline: bool) -> None:
    of_other = ModelOptions(other or str(tmp_path))
    for each in EngineSettings(model_name=str(tmp_path), models={"other": of_other}).by_name().values():
        environment: dict[str, str] = {}
        prepare_environment(each, "WARNING", environment)
        assert ("HF_HUB_OFFLINE" in environment) is is_offline


def test_models_in_memory_together_share_a_quarter_of_what_is_free() -> None:
    settings = EngineSettings(model_name="a", models={"b": ModelOptions("org/b")}, asr_model="org/asr")
    assert [kv_cache_bytes(each, 24 << 30) for each in settings.by_name().values()] == [2 << 30] * 3
    alone = msgspec.structs.replace(settings, max_loaded_models=1)
    assert [kv_cache_bytes(each, 24 << 30) for each in alone.by_name().values()] == [6 << 30] * 3


def test_models_in_memory_together_share_a_gpu() -> None:
    models = {"b": ModelOptions("org/b"), "c": ModelOptions("org/c", gpu_memory_utilization=0.7)}
    settings = EngineSettings(model_name="a", models=models)
    shares = [each.gpu_memory_utilization for each in settings.by_name().values()]
    assert shares == pytest.approx([0.1, 0.1, 0.7])
    without = EngineSettings(model_name="a", models={"b": ModelOptions("org/b")}, asr_model="org/asr")
    assert [each.gpu_memory_utilization for each in without.by_name().values()] == pytest.approx([0.3] * 3)
    alone = msgspec.structs.replace(settings, max_loaded_models=1)
    assert [each.gpu_memory_utilization for each in alone.by_name().values()] == [0.9, 0.9, 0.7]


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
    environment = {"VLLM_USE_V2": " ", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    prepare_environment(EngineSettings(model_name="org/model"), "INFO", environment)
    assert "VLLM_USE_V2" not in environment
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"
    assert "HF_HUB_OFFLINE" not in environment
