"""The rows about the model, here or on a server, and about its answer."""

from __future__ import annotations

import json
import struct
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from cli.check import model
from cli.check.findings import Finding, State
from engine.errors import EngineUnavailable
from tests.scripted_openai import MODELS, ScriptedOpenAI, refuses
from tests.unit.cli.conftest import MakeServices
from tests.unit.engine.fake_nvml import GB, Card
from tests.unit.fake_engine import FakeEngine

Disk = namedtuple("Disk", "total used free")


def only(findings: list[Finding]) -> Finding:
    """The one row of a check."""
    (finding,) = findings
    return finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a model."""
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_bundled_model_is_there(make_services: MakeServices) -> None:
    found = only(model.model(make_services()))
    assert found.state is State.OK
    assert found.text.startswith("demo-vlm is bundled with the server")
    assert "are free" in found.text


def test_folder_of_ones_own_is_there(make_services: MakeServices, folder: Path) -> None:
    found = only(model.model(make_services(VLLM_MODEL_NAME=str(folder))))
    assert found.state is State.OK
    assert f"is in {folder}" in found.text


def test_folder_that_lacks_files_names_them(make_services: MakeServices, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    found = only(model.model(make_services(VLLM_MODEL_NAME=str(folder))))
    assert found.state is State.PROBLEM
    assert "lacks its weights (*.safetensors). Copy or download the model again." in found.text


@pytest.mark.parametrize("name", ["/nowhere/model", "./nothing"])
def test_folder_that_is_not_there(make_services: MakeServices, name: str) -> None:
    found = only(model.model(make_services(VLLM_MODEL_NAME=name)))
    assert found.state is State.PROBLEM
    assert found.text.startswith(f"There is no model folder {name}. Set VLLM_MODEL_NAME")


def test_folder_without_a_model(make_services: MakeServices, tmp_path: Path) -> None:
    found = only(model.model(make_services(VLLM_MODEL_NAME=str(tmp_path))))
    assert found.state is State.PROBLEM
    assert "holds no model (no config.json)" in found.text


def test_model_to_download_is_told_with_its_size(make_services: MakeServices, tmp_path: Path) -> None:
    found = only(model.model(make_services(VLLM_MODEL_NAME="google/gemma-3-4b-it", HF_HUB_CACHE=str(tmp_path / "hub"))))
    assert found.state is State.WARNING
    for words in ("downloads it from Hugging Face, about 8.0 GB", "gated", "--check=load"):
        assert words in found.text


def test_model_to_download_without_room(
    make_services: MakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.check.model.shutil.disk_usage", lambda path: Disk(GB, 0, GB))
    found = only(model.model(make_services(VLLM_MODEL_NAME="google/gemma-3-4b-it", HF_HUB_CACHE=str(tmp_path))))
    assert found.state is State.PROBLEM
    assert "1.0 GB left. Free some space, or set HF_HUB_CACHE." in found.text


def test_model_to_download_into_a_folder_that_may_not_be_written(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.check.model.os.access", lambda path, mode: False)
    found = only(model.model(make_services(VLLM_MODEL_NAME="a/b", HF_HUB_CACHE="/proc/hub")))
    assert found.state is State.PROBLEM
    assert "is not writable. Set HF_HUB_CACHE" in found.text


def cached(cache: Path, **files: str) -> Path:
    """A model `a/b` in the cache of Hugging Face."""
    snapshot = cache / "models--a--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name.replace("_", ".")).write_text(content)
    return snapshot


def test_model_in_the_cache(make_services: MakeServices, tmp_path: Path) -> None:
    snapshot = cached(tmp_path, config_json="{}", tokenizer_json="{}", model_safetensors="x")
    found = only(model.model(make_services(VLLM_MODEL_NAME="a/b", HF_HUB_CACHE=str(tmp_path))))
    assert found.state is State.OK
    assert f"a/b is in {snapshot}" in found.text


def test_model_that_was_downloaded_in_part(make_services: MakeServices, tmp_path: Path) -> None:
    cached(tmp_path, config_json="{}", tokenizer_json="{}")
    found = only(model.model(make_services(VLLM_MODEL_NAME="a/b", HF_HUB_CACHE=str(tmp_path))))
    assert found.state is State.WARNING
    assert "continues the download" in found.text


def test_model_that_does_not_fit_is_a_warning(make_services: MakeServices, folder: Path, cards: Any) -> None:
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(30 * GB)
    cards(Card(used=4 * GB))
    found = only(model.model(make_services(VLLM_MODEL_NAME=str(folder))))
    assert found.state is State.WARNING
    assert "needs about 37.0 GB of memory; 20.0 GB are free: loading may fail" in found.text


def test_adapters_have_a_row_only_where_there_are_some(make_services: MakeServices, tmp_path: Path) -> None:
    assert model.lora(make_services()) == []
    found = only(model.lora(make_services(VLLM_LORA_MODULES=f"sql={tmp_path}")))
    assert found.state is State.PROBLEM
    assert "adapter sql" in found.text
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, "peft_type": "LORA"}))
    header = json.dumps({}).encode()
    (tmp_path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    found = only(model.lora(make_services(VLLM_LORA_MODULES=f"sql={tmp_path}")))
    assert (found.state, found.text) == (State.OK, "sql (rank 8).")


# A server that has the model


def test_no_server_is_asked_for(make_services: MakeServices) -> None:
    assert only(model.model_server(make_services())).state is State.OFF


def test_server_answers(make_services: MakeServices) -> None:
    with ScriptedOpenAI([f"model-{number}" for number in range(8)]) as server:
        services = make_services(VLLM_BASE_URL=server.url, VLLM_REMOTE_API_KEY="sesame")
        assert model.model(services) == []
        found = only(model.model_server(services))
    assert found.state is State.OK
    assert (
        "is vLLM 0.32.0; model-0 is used. It has model-0, model-1, model-2, model-3, model-4 and 3 more." in found.text
    )
    assert "sesame" not in found.text


def test_server_of_others_has_no_version(make_services: MakeServices) -> None:
    with ScriptedOpenAI(owned_by="someone") as server:
        found = only(model.model_server(make_services(VLLM_BASE_URL=server.url)))
    assert "is an OpenAI-compatible server" in found.text


def test_server_without_the_model(make_services: MakeServices) -> None:
    with ScriptedOpenAI() as server:
        found = only(model.model_server(make_services(VLLM_BASE_URL=server.url, VLLM_MODEL_NAME="other")))
    assert found.state is State.PROBLEM
    assert "has no model 'other'; it has scripted-vlm. Set VLLM_MODEL_NAME" in found.text


def test_server_that_refuses_the_key(make_services: MakeServices) -> None:
    with ScriptedOpenAI() as server:
        server.script(refuses(401, "bad key sesame"), path=MODELS)
        found = only(model.model_server(make_services(VLLM_BASE_URL=server.url, VLLM_REMOTE_API_KEY="sesame")))
    assert found.state is State.PROBLEM
    assert "VLLM_REMOTE_API_KEY" in found.text
    assert "sesame" not in found.text


def test_server_that_is_not_there(make_services: MakeServices) -> None:
    found = only(model.model_server(make_services(VLLM_BASE_URL="http://127.0.0.1:1")))
    assert found.state is State.PROBLEM
    assert "VLLM_BASE_URL" in found.text


# An answer


def test_answer_is_off_unless_asked_for(make_services: MakeServices) -> None:
    engine = FakeEngine()
    assert only(model.no_answer(make_services(engine))).state is State.OFF
    assert engine.n_loads == 0


def test_answer_is_measured_with_text_and_an_image(make_services: MakeServices) -> None:
    engine = FakeEngine(phases=("importing vLLM",))
    phases: list[str] = []
    found = only(model.answer(make_services(engine), phases.append))
    assert found.state is State.OK, found
    for words in ("loaded in", "text prompt in", "image prompt in"):
        assert words in found.text
    assert phases == ["importing vLLM"]
    assert [len(batch[0].messages[0].images) for batch in engine.batches] == [0, 1]


def test_answer_of_a_model_without_images(make_services: MakeServices) -> None:
    found = only(model.answer(make_services(FakeEngine(), VLLM_MAX_IMAGES_PER_PROMPT="0"), lambda phase: None))
    assert "no image input" in found.text


def test_load_that_fails_is_a_problem(make_services: MakeServices) -> None:
    engine = FakeEngine(load_error=EngineUnavailable("Failed to initialize vLLM: no network."))
    found = only(model.answer(make_services(engine), lambda phase: None))
    assert (found.state, found.text) == (State.PROBLEM, "Failed to initialize vLLM: no network.")


# Several models


def test_each_model_has_a_row(make_services: MakeServices, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    rows = model.model(make_services(VLLM_MODELS=f"broken={folder} far=/nowhere/model", VLLM_ASR_MODEL="org/whisper"))
    assert [row.state for row in rows] == [State.OK, State.PROBLEM, State.PROBLEM, State.WARNING]
    assert rows[0].text.startswith("demo-vlm is bundled")
    assert rows[1].text.startswith("The folder of broken lacks its weights")
    assert "/nowhere/model" in rows[2].text
    assert rows[3].text.startswith("whisper (org/whisper) is not on this machine")


def test_each_model_is_loaded_and_asked(make_services: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    services = make_services(VLLM_MODELS="words=/models/words bad=/models/bad hears=/models/hears")
    engines = {
        "words": FakeEngine(model_name="words"),
        "bad": FakeEngine(load_error=EngineUnavailable("It cannot be loaded.")),
        "hears": FakeEngine(model_name="hears"),
    }
    engines["words"].sees, engines["hears"].transcribes = False, True
    monkeypatch.setattr(services, "make_engine", lambda settings, beside: engines[settings.shown_name])
    rows = model.answer(services, lambda phase: None)
    assert [row.state for row in rows] == [State.OK, State.OK, State.PROBLEM, State.OK]
    assert rows[1].text.startswith("words (cpu, float32): loaded in ")
    assert rows[1].text.endswith("no image input.")
    assert rows[2].text == "bad: It cannot be loaded."
    assert rows[3].text.endswith("it transcribes speech.")
    assert engines["hears"].batches == []


def test_adapters_of_all_models_have_one_row(make_services: MakeServices, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": 8, "peft_type": "LORA"}))
    models = {"words": {"model": str(tmp_path), "lora_modules": {"pirate": str(tmp_path / "two")}}}
    services = make_services(VLLM_LORA_MODULES=f"poet={tmp_path / 'one'}", VLLM_MODELS=json.dumps(models))
    found = only(model.lora(services))
    assert (found.state, found.text) == (State.OK, "poet (rank 8), pirate (rank 8).")
