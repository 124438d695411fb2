"""Several models behind one server: what the tools about models say of each, and what they do to one of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import msgspec
import pytest

from engine.interface import EngineState
from handlers.model import model as model_tools
from tests.unit.engine.fake_nvml import FakeNvml
from tests.unit.fake_engine import FakeEngine
from tests.unit.handlers.tool_client import Client, user

NAMES = ["demo-vlm", "small", "eyes"]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have a GPU."""
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(driver=False))


@pytest.fixture
def models(make_client: Callable[..., Client]) -> Client:
    """A client of a server with three models, of which two are loaded."""
    client = make_client(VLLM_MODELS="small=/models/small eyes=org/eyes", GPU_IDLE_TIMEOUT="100")
    client.chat()
    client.chat(model="small")
    return client


def states(client: Client) -> dict[str, str]:
    """The state of each model."""
    return {each.name: each.state for each in client.result("model_info").models}


def used_ago(engine: FakeEngine, seconds: float) -> None:
    """Makes the last use of an engine longer ago."""
    assert engine.last_used_s is not None
    engine.last_used_s -= seconds


@pytest.mark.parametrize("tool", ["model_info", "get_gpu_status", "get_model_status"])
def test_answers_are_those_of_the_default_model_and_list_all(models: Client, tool: str) -> None:
    result = models.result(tool)
    assert result.model_name == "fake-model"
    assert [(each.name, each.is_default, each.state) for each in result.models] == [
        ("demo-vlm", True, "ready"),
        ("small", False, "ready"),
        ("eyes", False, "unloaded"),
    ]
    assert [each.accepts for each in result.models] == [["text", "image"], ["text", "image"], None]
    assert [each.idle_timeout for each in result.models] == [100, 100, 100]
    assert [each.memory_gb for each in result.models] == [None, None, None]


@pytest.mark.parametrize("tool", ["model_info", "get_gpu_status", "get_model_status"])
def test_named_model_is_the_one_that_is_told_about(models: Client, tool: str) -> None:
    assert models.result(tool, {"model": "eyes"}).model_name == "eyes"
    assert "There is no model 'nose' here." in models.error(tool, {"model": "nose"})
    assert not models.engines["eyes"].n_loads


@pytest.mark.parametrize("tool", ["model_info", "get_gpu_status", "get_model_status"])
def test_answers_of_one_model_have_no_list(client: Client, tool: str) -> None:
    assert "models" not in msgspec.to_builtins(client.result(tool))


def test_settings_of_the_named_model_are_told(make_client: Callable[..., Client]) -> None:
    client = make_client(
        VLLM_MODELS='{"small": {"model": "/m", "max_images_per_prompt": 1, "lora_modules": {"a": "/a"}}}'
    )
    info = client.result("model_info", {"model": "small"})
    assert (info.max_images_per_prompt, info.lora_modules) == (1, ["a"])
    assert client.result("model_info").lora_modules == []


def test_release_of_one_leaves_the_others(models: Client) -> None:
    result = models.result("release_gpu", {"model": "small"})
    assert (result.status, result.message) == (
        "released",
        "The model's memory was freed; the next call loads it again.",
    )
    assert states(models) == {"demo-vlm": "ready", "small": "unloaded", "eyes": "unloaded"}
    assert models.chat(model="small").model == "small"


def test_release_without_a_name_releases_all_and_names_them(models: Client) -> None:
    result = models.result("release_gpu")
    assert result.message == "The memory of demo-vlm, small was freed; a call that needs one of them loads it again."
    assert set(states(models).values()) == {"unloaded"}
    again = models.result("release_gpu")
    assert (again.status, again.message) == ("released", "No model was loaded, so nothing was released.")


def test_model_that_a_job_uses_is_not_released(models: Client) -> None:
    with models.services.models.in_use("small"):
        one = models.result("release_gpu", {"model": "small"})
        assert (one.status, one.message) == (
            "in_use",
            "The model small is in use by a running job and stays as it is.",
        )
        all_of_them = models.result("release_gpu")
        assert all_of_them.status == "released"
        assert all_of_them.message.endswith("The model small is in use by a running job and stays as it is.")
        assert states(models)["small"] == "ready"
    assert models.result("release_gpu", {"model": "small"}).status == "released"


def test_offload_moves_one_or_all(models: Client) -> None:
    for engine in models.engines.values():
        engine.can_offload = True
    models.result("offload_gpu", {"model": "small"})
    assert states(models) == {"demo-vlm": "ready", "small": "offloaded", "eyes": "unloaded"}
    result = models.result("offload_gpu")
    assert result.message.startswith("In the host's memory now: demo-vlm;")
    assert states(models)["demo-vlm"] == "offloaded"
    assert models.chat(model="small").text == "reply"


def test_offload_on_a_cpu_is_refused_for_each(models: Client) -> None:
    assert "Offloading is not supported" in models.error("offload_gpu")
    assert "Offloading is not supported" in models.error("offload_gpu", {"model": "eyes"})
    assert states(models) == {"demo-vlm": "ready", "small": "ready", "eyes": "unloaded"}


def test_each_model_has_its_own_idle_clock(models: Client) -> None:
    used_ago(models.engines["small"], 101)
    models.services.give_back_memory(lambda phase: None)
    assert states(models) == {"demo-vlm": "ready", "small": "unloaded", "eyes": "unloaded"}
    used_ago(models.engine, 101)
    assert (models.services.idle_due_s() or 0) <= time.monotonic()
    models.services.give_back_memory(lambda phase: None)
    assert set(states(models).values()) == {"unloaded"}
    assert models.services.idle_due_s() is None


def test_model_in_use_is_never_taken_by_the_idle_timeout(models: Client) -> None:
    used_ago(models.engines["small"], 101)
    with models.services.models.in_use("small"):
        assert (models.services.idle_due_s() or 0) > time.monotonic(), "only the other model is due"
        models.services.give_back_memory(lambda phase: None)
        assert states(models)["small"] == "ready"
    models.services.give_back_memory(lambda phase: None)
    assert states(models)["small"] == "unloaded"


def test_timeout_is_set_for_one_or_for_all(models: Client) -> None:
    result = models.result("update_gpu_timeout", {"timeout_seconds": 5, "model": "small"})
    assert result.message == "The memory of the unused model small is freed after 5 s."
    assert models.result("get_gpu_status", {"model": "small"}).idle_timeout == 5
    assert models.result("get_gpu_status").idle_timeout == 100
    assert models.result("update_gpu_timeout", {"timeout_seconds": 0, "model": "small"}).message == (
        "The unused model small stays loaded until release_gpu."
    )
    assert models.result("update_gpu_timeout", {"timeout_seconds": 7}).message == (
        "The memory of an unused model is freed after 7 s."
    )
    assert {each.idle_timeout for each in models.result("model_info").models} == {7}


def test_configured_models_are_listed_with_what_they_accept(models: Client) -> None:
    configured = models.result("list_available_models").models.configured
    assert [(each.name, each.loaded, each.state, each.is_default) for each in configured] == [
        ("demo-vlm", True, "ready", True),
        ("small", True, "ready", False),
        ("eyes", False, "unloaded", False),
    ]
    assert [each.accepts for each in configured] == [["text", "image"], ["text", "image"], None]
    assert [each.note for each in configured] == ["", "/models/small", "org/eyes"]
    suggested = msgspec.to_builtins(models.result("list_available_models").models.suggested[0])
    assert not {"state", "is_default", "accepts"} & suggested.keys()


def test_resource_of_the_model_lists_all(models: Client) -> None:
    assert [each["name"] for each in msgspec.to_builtins(model_tools.model_facts(models.services))["models"]] == NAMES


def test_metrics_have_a_label_only_where_there_are_several(models: Client, client: Client) -> None:
    found = list(models.services.samples())
    assert {sample.name for sample in found} == {"prompt_tokens_total", "generated_tokens_total", "engine_state"}
    assert [sample.labels["model"] for sample in found if sample.name == "prompt_tokens_total"] == NAMES
    ready = [sample.labels for sample in found if sample.labels.get("state") == EngineState.READY and sample.value]
    assert ready == [{"model": "demo-vlm", "state": "ready"}, {"model": "small", "state": "ready"}]
    assert not any("model" in sample.labels for sample in client.services.samples())


def test_preload_loads_the_default_model(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_MODELS="small=/models/small", VLLM_PRELOAD="1")
    client.services.preload(lambda phase: None)
    assert states(client) == {"demo-vlm": "ready", "small": "unloaded"}


def test_local_provider_offers_all_models_and_their_adapters(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_MODELS='{"small": {"model": "/m", "lora_modules": {"pirate": "/a"}}}')
    (local, *_) = client.result("list_available_providers", {"provider": "local"}).providers
    assert ([model.id for model in local.models], local.default_model) == (["demo-vlm", "small", "pirate"], "demo-vlm")
    result = client.result("generate_multimodal_response", {"prompt": "Hi", "model": "small"})
    assert (result.model, result.provider) == ("small", "local")
    result = client.result("generate_multimodal_response", {"prompt": "Hi", "model": "pirate"})
    assert (result.model, client.engines["small"].conversations[-1].lora) == ("pirate", "pirate")
    assert not client.engine.batches


def test_failed_load_of_one_leaves_the_others_alone(models: Client) -> None:
    from engine.errors import EngineUnavailable

    models.services.models.engine("eyes")
    models.engines["eyes"].load_error = EngineUnavailable("The model eyes cannot be loaded.")
    assert models.error("chat_completion", {"messages": [user("Hi")], "model": "eyes"}) == (
        "The model eyes cannot be loaded."
    )
    assert states(models) == {"demo-vlm": "ready", "small": "ready", "eyes": "failed"}
    assert models.chat(model="small").text == "reply"
