"""The list of providers and their models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripted_openai import (
    MODEL,
    MODELS,
    ScriptedOpenAI,
    answers,
    drips,
    refuses,
)
from tests.unit.handlers.provider_calls import KEY, ask, refusal
from tests.unit.handlers.tool_client import Client


def test_provider_that_does_not_tell_its_models_delays_nobody_for_long(
    provider_client: Client, server: ScriptedOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.providers.routing.PATIENCE_S", 0.1)
    server.script(drips, path=MODELS)
    assert ask(provider_client, model="both").provider == "lab"
    result = ask(provider_client, model="gpt-x", provider="openai")
    assert (result.text, result.provider) == ("one two", "openai")
    assert any("slow to list its models" in warning for warning in result.warnings)
    assert [path for path, _ in server.seen].count(MODELS) == 1


def test_all_providers_are_listed_with_what_they_have(provider_client: Client, server: ScriptedOpenAI) -> None:
    found = {each.name: each for each in provider_client.result("list_available_providers").providers}
    assert list(found) == ["local", "openai", "dashscope", "lab"]
    local, openai, dashscope, lab = found.values()
    assert (local.configured, local.reachable, local.default_model) == (True, None, "demo-vlm")
    assert (openai.configured, openai.reachable, openai.error, openai.total_models) == (True, True, None, 2)
    assert [model.id for model in openai.models] == ["gpt-x", "both"]
    assert openai.base_url == server.url
    assert (dashscope.configured, dashscope.reachable, dashscope.models) == (False, None, [])
    assert dashscope.error == "The provider dashscope is not configured: set DASHSCOPE_API_KEY."
    assert [(model.id, model.context_length) for model in lab.models] == [(MODEL, 2048), ("both", 2048)]
    provider_client.engine.load()
    (local,) = provider_client.result("list_available_providers", {"provider": "local"}).providers
    assert (local.reachable, local.models[0].modalities) == (True, ["text", "image"])


def test_one_that_fails_says_why_and_the_others_are_listed(
    provider_client: Client, server: ScriptedOpenAI, lab: ScriptedOpenAI
) -> None:
    server.script(refuses(401, f"bad key {KEY}"), path=MODELS)
    lab.script(answers(b'{"detail":"Not Found"}', 404), path=MODELS)
    found = {each.name: each for each in provider_client.result("list_available_providers").providers}
    assert (found["openai"].reachable, found["openai"].models) == (False, [])
    assert "does not accept the key (HTTP 401). Set OPENAI_API_KEY" in found["openai"].error
    assert (found["lab"].reachable, found["lab"].total_models) == (True, None)
    assert found["lab"].error == "It does not list its models: set model."
    assert ask(provider_client, provider="lab", model="anything").text == "one two"


def test_unknown_provider_is_refused(provider_client: Client) -> None:
    text = provider_client.error("list_available_providers", {"provider": "x"})
    assert "no provider 'x'; there are local, openai, dashscope, lab." in text


def test_models_of_the_file_are_the_only_ones(
    lab: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]
) -> None:
    models = [{"id": MODEL, "modalities": ["text"], "context_length": 50}, "unlisted"]
    entry = {"name": "lab", "base_url": lab.url, "models": models, "default_model": MODEL}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    client = make_client(VLLM_CONFIG_FILE=str(tmp_path / "config.json"))
    (info,) = client.result("list_available_providers", {"provider": "lab"}).providers
    assert [(model.id, model.modalities, model.context_length) for model in info.models] == [
        (MODEL, ["text"], 50),
        ("unlisted", None, None),
    ]
    assert ask(client, provider="lab").model == MODEL
    assert ask(client, model="unlisted").provider == "lab"
    assert "has no model 'both'" in refusal(client, provider="lab", model="both")


def test_server_in_the_engines_place_is_a_provider(lab: ScriptedOpenAI, make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_BASE_URL=lab.url, VLLM_REMOTE_API_KEY=KEY)
    assert [each.name for each in client.result("list_available_providers").providers] == [
        "vllm",
        "openai",
        "dashscope",
    ]
    result = ask(client)
    assert (result.provider, result.model) == ("vllm", MODEL), "the first, as chat_completion takes"
    assert client.engine.batches == []
    assert "there are vllm, openai, dashscope" in refusal(client, provider="local")


def test_nobody_is_asked_before_a_call(provider_client: Client, server: ScriptedOpenAI, lab: ScriptedOpenAI) -> None:
    provider_client.toolbox.listing()
    provider_client.result("model_info")
    assert (server.seen, lab.seen) == ([], [])
    assert "providers" not in provider_client.services.__dict__
