"""The rows about services of the OpenAI API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.check.findings import Finding, State
from cli.check.providers import providers
from tests.scripted_openai import MODELS, ScriptedOpenAI, refuses
from tests.unit.cli.conftest import MakeServices


@pytest.fixture
def service() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI(["one", "two"], owned_by="someone") as server:
        yield server


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    """The rows by what they are about."""
    return {finding.subject: finding for finding in findings}


def config(folder: Path, **entry: Any) -> str:
    """A file with one provider."""
    path = folder / "providers.json"
    path.write_text(json.dumps({"providers": [{"name": "lab", **entry}]}))
    return str(path)


def test_providers_without_a_key_are_off(make_services: MakeServices) -> None:
    found = by_subject(providers(make_services()))
    assert {subject: finding.state for subject, finding in found.items()} == {
        "provider openai": State.OFF,
        "provider dashscope": State.OFF,
    }
    assert "OPENAI_API_KEY is not set" in found["provider openai"].text


def test_family_that_is_not_offered_is_off(make_services: MakeServices) -> None:
    (found,) = providers(make_services(VLLM_TOOLSETS="chat", OPENAI_API_KEY="sesame"))
    assert found.state is State.OFF


def test_provider_answers(make_services: MakeServices, service: ScriptedOpenAI) -> None:
    services = make_services(OPENAI_API_KEY="sesame", OPENAI_BASE_URL=service.url)
    found = by_subject(providers(services))["provider openai"]
    assert found == Finding("provider openai", State.OK, f"{service.url} responds; models: 2.")
    assert service.chats() == []


def test_provider_refuses_the_key(make_services: MakeServices, service: ScriptedOpenAI) -> None:
    service.script(refuses(401, "bad key sesame"), path=MODELS)
    services = make_services(OPENAI_API_KEY="sesame", OPENAI_BASE_URL=service.url)
    found = by_subject(providers(services))["provider openai"]
    assert found.state is State.PROBLEM
    assert "OPENAI_API_KEY" in found.text
    assert "sesame" not in found.text


def test_provider_is_not_there(make_services: MakeServices) -> None:
    services = make_services(DASHSCOPE_API_KEY="sesame", DASHSCOPE_BASE_URL="http://127.0.0.1:1")
    found = by_subject(providers(services))["provider dashscope"]
    assert found.state is State.PROBLEM
    assert "DASHSCOPE_BASE_URL" in found.text


def test_provider_of_the_file_lacks_its_key(make_services: MakeServices, tmp_path: Path) -> None:
    path = config(tmp_path, base_url="http://127.0.0.1:1", api_key_env="LAB_KEY")
    found = by_subject(providers(make_services(VLLM_CONFIG_FILE=path)))["provider lab"]
    assert found.state is State.PROBLEM
    assert "LAB_KEY is not set" in found.text


def test_provider_of_the_file_lacks_its_default_model(
    make_services: MakeServices, service: ScriptedOpenAI, tmp_path: Path
) -> None:
    services = make_services(VLLM_CONFIG_FILE=config(tmp_path, base_url=service.url, default_model="three"))
    found = by_subject(providers(services))["provider lab"]
    assert found.state is State.WARNING
    assert "does not list its default_model three" in found.text


def test_provider_that_does_not_tell_its_models(make_services: MakeServices, service: ScriptedOpenAI) -> None:
    service.script(refuses(404, "no such thing"), path=MODELS)
    services = make_services(OPENAI_API_KEY="sesame", OPENAI_BASE_URL=service.url)
    found = by_subject(providers(services))["provider openai"]
    assert found.state is State.OK
    assert "calls must name one" in found.text


def test_server_in_the_engines_place_has_no_second_row(make_services: MakeServices) -> None:
    assert "provider vllm" not in by_subject(providers(make_services(VLLM_BASE_URL="http://127.0.0.1:1")))
