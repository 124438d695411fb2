"""Several models behind one server: which one a call uses, and which one its result names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.handlers.tool_client import Client, Json, user

MODELS = '{"small": "/models/small", "eyes": {"model": "org/eyes", "max_images_per_prompt": 1}}'
LORA = '{"small": {"model": "/models/small", "lora_modules": {"pirate": "/adapters/pirate"}}}'
QUERY = {"query": "What is this?"}


@pytest.fixture
def models(make_client: Callable[..., Client]) -> Client:
    """A client of a server with three models."""
    return make_client(VLLM_MODELS=MODELS)


def calls(path: str) -> dict[str, Json]:
    """The arguments of every tool that takes a model."""
    return {
        "chat_completion": {"messages": [user("Hi")]},
        "chat_completion_batch": {"conversations": [[user("Hi")]]},
        "analyze_images_with_query": {"image_paths": [path], **QUERY},
        "check_image_relevance": {"image_path": path, **QUERY},
        "analyze_single_image": {"image_path": path, **QUERY},
    }


@pytest.mark.parametrize("tool", calls(""))
def test_named_model_answers_and_is_named_in_the_result(models: Client, tool: str, paths: list[str]) -> None:
    models.services.models.engine("small")
    for _ in range(3):
        models.engines["small"].enqueue(probabilities=(0.9, 0.1))
    result = models.result(tool, {**calls(paths[0])[tool], "model": "small"})
    assert result.model == "small"
    assert models.engines["small"].batches
    assert not models.engine.batches
    assert not models.engine.n_loads


@pytest.mark.parametrize("tool", calls(""))
def test_unknown_model_is_told_with_the_names_there_are(models: Client, tool: str) -> None:
    error = models.error(tool, {**calls("/nowhere/image.png")[tool], "model": "smal"})
    assert error == (
        "There is no model 'smal' here. Did you mean small? The models of this server: demo-vlm, small, eyes. "
        "VLLM_MODELS adds others."
    )
    assert not any(engine.n_loads for engine in models.engines.values())


def test_model_may_be_named_by_its_path(models: Client) -> None:
    assert models.chat(model="/models/small").model == "small"
    assert models.chat(model="org/eyes").model == "eyes"


def test_default_model_answers_without_a_name(models: Client) -> None:
    assert models.chat().model == models.chat(model="demo-vlm").model == "fake-model"
    assert list(models.engines) == ["demo-vlm"]


def test_one_model_can_be_named_too(client: Client) -> None:
    assert client.chat(model="demo-vlm").model == "fake-model"
    assert "The models of this server: demo-vlm." in client.error(
        "chat_completion", {"messages": [user("Hi")], "model": "other"}
    )


def test_limit_of_images_is_that_of_the_named_model(models: Client, paths: list[str]) -> None:
    images = [{"type": "image", "path": path} for path in paths[:2]]
    assert models.result("chat_completion", {"messages": [user(images)]}).text == "reply"
    error = models.error("chat_completion", {"messages": [user(images)], "model": "eyes"})
    assert error.startswith("arguments.messages: 2 images; one prompt holds at most 1")


def test_adapters_are_those_of_the_named_model(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_MODELS=LORA)
    assert client.chat(model="small", lora="pirate").model == "small"
    assert "arguments.lora: there is no adapter" in client.error(
        "chat_completion", {"messages": [user("Hi")], "lora": "pirate"}
    )


def test_name_that_no_server_has_is_unknown_before_it_is_asked(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_BASE_URL="http://127.0.0.1:9/v1")
    error = client.error("chat_completion", {"messages": [user("Hi")], "model": "\0"})
    assert error.startswith("There is no model '\\x00' here.")
