"""The rows about vLLM-Omni servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.check import servers
from cli.check.findings import Finding, State
from tests.certificates import Authority
from tests.scripted_omni import ScriptedOmni, answers, refuses
from tests.scripted_speech import ScriptedSpeechServer
from tests.unit.cli.conftest import MakeServices

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def omni() -> Iterator[ScriptedOmni]:
    with ScriptedOmni() as server:
        yield server


def only(findings: list[Finding]) -> Finding:
    """The one row of a check."""
    (finding,) = findings
    return finding


def test_image_server_answers(make_services: MakeServices, omni: ScriptedOmni) -> None:
    found = only(servers.images(make_services(OMNI_URL=omni.url)))
    assert found.state is State.OK
    assert f"{omni.url} is vLLM-Omni 0.30.0 with {omni.model}; it responds in" in found.text


def test_image_server_that_was_set_and_is_not_there_is_a_problem(make_services: MakeServices) -> None:
    found = only(servers.images(make_services(OMNI_URL=NOBODY)))
    assert found.state is State.PROBLEM
    assert f"No server responds at {NOBODY}" in found.text


def test_image_server_that_nobody_set_may_be_missing(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = make_services(OMNI_URL=NOBODY)
    monkeypatch.setattr("cli.check.servers.DEFAULT_URL", NOBODY)
    found = only(servers.images(services))
    assert found.state is State.OFF
    assert "scripts/omni-cpu" in found.text


def test_image_server_that_wants_a_key(make_services: MakeServices, omni: ScriptedOmni) -> None:
    omni.script(refuses(401, "no"), path="/v1/models")
    found = only(servers.images(make_services(OMNI_URL=omni.url, OMNI_API_KEY="sesame")))
    assert found.state is State.PROBLEM
    assert "OMNI_API_KEY" in found.text
    assert "sesame" not in found.text


def test_image_server_that_is_something_else(make_services: MakeServices, omni: ScriptedOmni) -> None:
    omni.script(answers(b"<html>"), path="/v1/models")
    found = only(servers.images(make_services(OMNI_URL=omni.url)))
    assert found.state is State.PROBLEM
    assert "Check OMNI_URL" in found.text


@pytest.mark.parametrize("status", [403, 404, 405])
def test_image_server_that_does_not_tell_its_model(
    make_services: MakeServices, omni: ScriptedOmni, status: int
) -> None:
    omni.script(answers(b"", status), path="/v1/models")
    found = only(servers.images(make_services(OMNI_URL=f"{omni.url}/v1")))
    assert found.state is State.WARNING
    assert f"{omni.url} is healthy but does not report its model." in found.text
    omni.script(answers(b"", status), path="/health")
    assert only(servers.images(make_services(OMNI_URL=omni.url))).state is State.PROBLEM


def test_image_server_without_a_health_page(make_services: MakeServices, omni: ScriptedOmni) -> None:
    omni.script(answers(b"", 404), path="/health")
    assert only(servers.images(make_services(OMNI_URL=omni.url))).state is State.OK


def test_image_server_whose_certificate_nobody_knows(
    make_services: MakeServices, omni: ScriptedOmni, tmp_path: Path
) -> None:
    omni.socket = Authority(tmp_path).server_context("localhost").wrap_socket(omni.socket, server_side=True)
    url = omni.url.replace("http://127.0.0.1", "https://localhost")
    found = only(servers.images(make_services(OMNI_URL=url)))
    assert found.state is State.PROBLEM
    assert "certificate" in found.text


def test_unknown_image_model_is_a_warning(make_services: MakeServices, omni: ScriptedOmni) -> None:
    omni.model = "somebody/new"
    found = only(servers.images(make_services(OMNI_URL=omni.url)))
    assert found.state is State.WARNING
    assert "OMNI_PROFILES" in found.text


def test_families_that_are_not_offered_are_off(make_services: MakeServices) -> None:
    services = make_services(VLLM_TOOLSETS="chat", OMNI_URL=NOBODY)
    assert only(servers.images(services)).state is State.OFF
    assert only(servers.video(services)).state is State.OFF


def test_profiles_have_a_row_only_where_there_is_a_file(make_services: MakeServices, tmp_path: Path) -> None:
    path = tmp_path / "profiles.json"
    assert servers.profiles(make_services()) == []
    found = only(servers.profiles(make_services(OMNI_PROFILES=str(path))))
    assert found.state is State.PROBLEM
    path.write_text(json.dumps({"my/model": {"default_steps": 2}}))
    assert only(servers.profiles(make_services(OMNI_PROFILES=str(path)))).state is State.OK


def test_video_server_talks(make_services: MakeServices, omni: ScriptedOmni) -> None:
    omni.model = "Wan-AI/Wan2.2-S2V-14B"
    found = only(servers.video(make_services(OMNI_VIDEO_URL=omni.url)))
    assert found == Finding(
        "video", State.OK, f"{omni.url} serves {omni.model}. Makes videos from an image and a voice."
    )


def test_video_server_of_an_unknown_model_is_a_warning(make_services: MakeServices, omni: ScriptedOmni) -> None:
    omni.model = "somebody/talking-head"
    found = only(servers.video(make_services(OMNI_VIDEO_URL=omni.url)))
    assert found.state is State.WARNING
    assert "This model is unknown" in found.text


def test_image_server_makes_no_videos_which_is_a_problem_only_where_one_was_set(
    make_services: MakeServices, omni: ScriptedOmni
) -> None:
    assert only(servers.video(make_services(OMNI_URL=omni.url))).state is State.OFF
    assert only(servers.video(make_services(OMNI_VIDEO_URL=omni.url))).state is State.PROBLEM


def test_each_video_server_has_a_row(make_services: MakeServices, omni: ScriptedOmni) -> None:
    services = make_services(OMNI_URL=omni.url, OMNI_VIDEO_MODELS=f"wan={NOBODY}")
    found = {finding.subject: finding for finding in servers.video(services)}
    assert found["video"].state is State.OFF
    assert found["video wan"].state is State.PROBLEM
    assert "There is no server at this address" in found["video wan"].text


@pytest.mark.parametrize(
    ("model", "state", "text"),
    [
        ("k2-fsa/OmniVoice", State.OK, "serves k2-fsa/OmniVoice. Speaks a text"),
        ("somebody/talker", State.WARNING, "is unknown; it may not speak"),
        ("black-forest-labs/FLUX.2-klein-4B", State.PROBLEM, "which does not speak"),
    ],
)
def test_server_for_speech(make_services: MakeServices, model: str, state: State, text: str) -> None:
    with ScriptedSpeechServer(model) as server:
        found = only(servers.speech(make_services(OMNI_SPEECH_URL=server.url)))
    assert found.state is state
    assert text in found.text


def test_speech_is_off_where_nothing_is_set_and_a_problem_where_nobody_answers(
    make_services: MakeServices,
) -> None:
    assert only(servers.speech(make_services())).state is State.OFF
    assert only(servers.speech(make_services(VLLM_TOOLSETS="chat"))).state is State.OFF
    assert only(servers.speech(make_services(OMNI_SPEECH_URL=NOBODY))).state is State.PROBLEM
