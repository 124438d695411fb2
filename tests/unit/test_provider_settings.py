"""Which providers there are, by variables and by a file, and what is wrong with that file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from settings import Settings, read
from settings.providers import DASHSCOPE_URL, OPENAI_URL, ModelEntry, RemoteProvider, remote_providers

ROOT = Path(__file__).parents[2]
SECRET = "sk-in-the-file-0123456789"
LAB = {"name": "lab", "base_url": "http://gpu-host:8000/v1/"}


def providers_of(found: Settings) -> dict[str, RemoteProvider]:
    assert found.problems == ()
    bundled = found.engine.model_name == read({}).engine.model_name
    all_of_them = remote_providers(found.engine, bundled, found.providers, found.more_providers)
    return {provider.name: provider for provider in all_of_them}


def with_file(folder: Path, *entries: Any, **environment: str) -> Settings:
    path = folder / "config.json"
    path.write_text(json.dumps({"providers": entries}))
    return read({"VLLM_CONFIG_FILE": str(path), **environment})


def test_two_are_known_without_any_setting_and_say_what_they_need() -> None:
    found = providers_of(read({}))
    assert {name: (each.base_url, each.missing) for name, each in found.items()} == {
        "openai": (OPENAI_URL, "OPENAI_API_KEY"),
        "dashscope": (DASHSCOPE_URL, "DASHSCOPE_API_KEY"),
    }


def test_key_or_an_address_of_ones_own_configures() -> None:
    found = providers_of(read({"OPENAI_BASE_URL": "http://localhost:1/v1", "DASHSCOPE_API_KEY": "k"}))
    assert (found["openai"].base_url, found["openai"].api_key, found["openai"].missing) == (
        "http://localhost:1/v1",
        None,
        None,
    )
    assert (found["dashscope"].api_key, found["dashscope"].missing) == ("k", None)
    assert providers_of(read({"OPENAI_BASE_URL": OPENAI_URL}))["openai"].missing == "OPENAI_API_KEY"


def test_server_in_the_engines_place_comes_first() -> None:
    environment = {"VLLM_BASE_URL": "http://gpu:8000", "VLLM_REMOTE_API_KEY": "k"}
    assert list(providers_of(read(environment))) == ["vllm", "openai", "dashscope"]
    vllm = providers_of(read(environment))["vllm"]
    assert (vllm.api_key, vllm.default_model, vllm.first_model_is_default) == ("k", None, True)
    vllm = providers_of(read({**environment, "VLLM_MODEL_NAME": "m"}))["vllm"]
    assert (vllm.default_model, vllm.first_model_is_default) == ("m", False)


def test_file_adds_providers(tmp_path: Path) -> None:
    models = ["a", {"id": "b", "modalities": ["text", "audio"], "context_length": 5}]
    full = {**LAB, "api_key_env": "LAB_KEY", "models": models, "default_model": "b", "ask_timeout_s": 2, "silence_s": 9}
    other = {"name": "other", "base_url": "https://x.example/v1", "api_key": SECRET}
    found = providers_of(with_file(tmp_path, full, other, LAB_KEY=" key "))
    lab = found["lab"]
    assert (lab.base_url, lab.api_key, lab.missing) == ("http://gpu-host:8000/v1", "key", None)
    assert lab.models == (ModelEntry("a"), ModelEntry("b", ("text", "audio"), 5))
    assert (lab.default_model, lab.ask_timeout_s, lab.silence_s, lab.key_setting) == ("b", 2.0, 9.0, "LAB_KEY")
    assert found["other"].api_key == SECRET
    assert SECRET not in repr(found) + found["other"].key_setting
    assert list(found) == ["openai", "dashscope", "lab", "other"]


def test_key_may_be_in_the_env_file_and_may_be_missing(tmp_path: Path) -> None:
    entry = {**LAB, "api_key_env": "LAB_KEY"}
    assert providers_of(with_file(tmp_path, entry))["lab"].missing == "LAB_KEY"
    (tmp_path / ".env").write_text("LAB_KEY=k")
    assert providers_of(with_file(tmp_path, entry, VLLM_ENV_FILE=str(tmp_path / ".env")))["lab"].api_key == "k"


def test_file_may_have_its_own_entry_for_openai(tmp_path: Path) -> None:
    found = providers_of(with_file(tmp_path, {**LAB, "name": "openai"}, OPENAI_API_KEY="k"))
    assert list(found) == ["dashscope", "openai"]
    assert (found["openai"].base_url, found["openai"].api_key) == ("http://gpu-host:8000/v1", None)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([{"name": "a"}], "providers[0]: object missing required field base_url."),
        ([LAB, {**LAB, "name": "b", "key": SECRET}], "providers[1]: object contains unknown field key."),
        ([{**LAB, "name": "a b"}], "providers[0].name: expected str matching regex"),
        ([{**LAB, "name": "local"}], "the provider name local is reserved."),
        ([{**LAB, "name": "vllm"}], "the provider name vllm is reserved."),
        ([LAB, LAB], "two providers have the name lab."),
        ([{**LAB, "base_url": f"http://me:{SECRET}@h"}], "providers[0].base_url must be an http or https URL without"),
        ([{**LAB, "base_url": "gpu:8000"}], "providers[0].base_url must be an http or https URL"),
        ([{**LAB, "api_key": SECRET, "api_key_env": "K"}], "providers[0] has both api_key and api_key_env"),
        ([{**LAB, "api_key_env": SECRET}], "providers[0].api_key_env must be the name of a variable."),
        ([{**LAB, "api_key": 5}], "providers[0].api_key: expected str | null, got int."),
        ([{**LAB, "models": ["a", "a"]}], "providers[0].models has a model twice."),
        ([{**LAB, "models": [{"id": "a", "modalities": ["smell"]}]}], "invalid enum value 'smell'"),
        ([{**LAB, "models": ["a"], "default_model": "b"}], "providers[0].default_model is not among its models."),
        ([{**LAB, "ask_timeout_s": 0}], "providers[0].ask_timeout_s: expected float > 0.0."),
    ],
)
def test_wrong_entry_is_a_problem_without_a_key_in_it(entries: list[Any], what: str, tmp_path: Path) -> None:
    found = with_file(tmp_path, *entries)
    (problem,) = found.problems
    assert problem.startswith("The file that VLLM_CONFIG_FILE names is invalid: ")
    assert what in problem
    assert SECRET not in problem
    assert found.more_providers == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"providers": [' + SECRET, "names is not JSON at byte"),
        ("[]", "is invalid: expected object, got array."),
        ('{"providers": [], "more": 1}', "object contains unknown field more."),
        ("[" * 100_000, "is invalid"),
        ("", "is not JSON"),
    ],
)
def test_wrong_file_is_a_problem(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    (problem,) = read({"VLLM_CONFIG_FILE": str(path)}).problems
    assert what in problem
    assert SECRET not in problem


def test_file_that_is_not_there_is_a_problem() -> None:
    (problem,) = read({"VLLM_CONFIG_FILE": "/no/such.json"}).problems
    assert problem == "The file that VLLM_CONFIG_FILE names cannot be read: No such file or directory."


def test_examples_can_be_used(tmp_path: Path) -> None:
    example = json.loads((ROOT / "examples" / "providers.json").read_text())
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8").splitlines()
    (line,) = [json.loads(line) for line in page if line.startswith('{"providers"')]
    for content in (example, line):
        assert {"openai", "dashscope", "lab"} <= set(providers_of(with_file(tmp_path, *content["providers"])))


@pytest.mark.parametrize(
    ("entry", "environment", "place"),
    [
        ({"api_key": "${LAB_KEY}"}, {}, "providers[0].api_key"),
        ({"base_url": "${env:LAB_URL}"}, {}, "providers[0].base_url"),
        ({"api_key_env": "LAB_KEY"}, {"LAB_KEY": "${LAB_KEY}"}, "LAB_KEY, which providers[0] names,"),
    ],
)
def test_placeholder_that_nobody_filled_in_is_named(
    entry: dict[str, str], environment: dict[str, str], place: str, tmp_path: Path
) -> None:
    file = tmp_path / "providers.json"
    file.write_text(json.dumps({"providers": [{"name": "lab", "base_url": "http://lab:8000/v1", **entry}]}))
    (problem,) = read({"VLLM_CONFIG_FILE": str(file), **environment}).problems
    assert place in problem
    assert "LAB_" in problem
    assert "holds the placeholder" in problem
