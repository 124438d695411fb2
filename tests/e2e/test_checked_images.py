"""Images that the bundled vision model looked at; the bundled image model drew them, on a real vLLM-Omni."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.float_weights import copied
from benchmarks.measured_shapes import shown
from tests.e2e.media_answers import facts
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ROOT, ServerProcess

Json = dict[str, Any]
SIZE: Json = {"width": 128, "height": 128, "num_inference_steps": 4, "guidance_scale": 1.0}
LONG: Json = {"width": 256, "height": 256, "num_inference_steps": 200, "guidance_scale": 1.0}
PROMPT = "a red circle on a blue background"
WAIT_S = 120.0


@pytest.fixture(scope="module")
def painter(omni_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OmniServer]:
    """A vLLM-Omni with the bundled image model."""
    with OmniServer(copied(ROOT / "models" / "demo-image", tmp_path_factory.mktemp("models"))) as server:
        yield server


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def studio(painter: OmniServer, pictures: Path, model: dict[str, str]) -> Iterator[ServerProcess]:
    """One server for all tests here, with both models of the bundled pair."""
    with ServerProcess({**model, "OMNI_URL": painter.url, "OMNI_OUTPUT_DIR": str(pictures)}) as process:
        process.initialize()
        yield process


def pixels(path: str) -> bytes:
    """What an image file shows."""
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_the_best_of_three_is_saved_and_its_seed_makes_it_again(studio: ServerProcess, pictures: Path) -> None:
    before = set(os.listdir(pictures))
    told = facts(studio, "generate_image", {"prompt": PROMPT, "seed": 21, "best_of": 3, **SIZE})
    candidates = told["candidates"]
    assert [each["seed"] for each in candidates] == [21, 22, 23]
    (chosen,) = [each for each in candidates if each["chosen"]]
    assert chosen["probability"] == max(each["probability"] for each in candidates) == told["check"]["probability"]
    assert [part["text"] for part in chosen["parts"]] == ["a red circle", "a blue background"]
    assert told["check"]["verdict"] == "shows the prompt"
    assert told["check"]["model"] == studio.result("model_info")["model_name"]
    assert told["parameters_used"]["seed"] == chosen["seed"]
    (name,) = set(os.listdir(pictures)) - before
    assert str(pictures / name) == told["file_path"]
    assert shown(Path(told["file_path"]).read_bytes()) == ("red", "circle", "blue")
    with Image.open(told["file_path"]) as image:
        assert json.loads(image.text["parameters"]) == told["parameters_used"]  # type: ignore[attr-defined]
    again = facts(studio, "generate_image", {"prompt": PROMPT, "seed": chosen["seed"], **SIZE})
    assert pixels(again["file_path"]) == pixels(told["file_path"])


def test_what_the_image_model_cannot_draw_is_missed(studio: ServerProcess) -> None:
    """It knows one shape in an image; the vision model sees that the second one is not there."""
    prompt = "a red circle on a blue background and a yellow square"
    told = facts(studio, "generate_image", {"prompt": prompt, "seed": 3, "check": True, **SIZE})
    assert told["check"]["verdict"] == "misses the prompt"
    assert [part["text"] for part in told["check"]["parts"]] == ["a red circle", "a blue background", "a yellow square"]
    assert told["notes"][-1].startswith("The image misses the prompt.")
    assert Path(told["file_path"]).exists()


def test_the_job_has_the_check_at_its_end(studio: ServerProcess) -> None:
    begun = facts(studio, "generate_image", {"prompt": PROMPT, "seed": 5, "best_of": 2, "wait_s": 0, **SIZE})
    assert begun["status"] == "running"
    told = facts(studio, "job_status", {"job_id": begun["job_id"], "wait_s": WAIT_S})
    assert told["status"] == "success"
    assert [each["seed"] for each in told["candidates"]] == [5, 6]
    assert told["check"]["probability"] > 0.5


def test_progress_names_the_candidates(studio: ServerProcess) -> None:
    arguments = {"prompt": PROMPT, "seed": 9, "best_of": 2, **SIZE}
    request_id = studio.send_call("generate_image", arguments, meta={"progressToken": "p"})
    messages = []
    while (message := studio.read_message(WAIT_S)).get("id") != request_id:
        messages.append(message["params"]["message"])
    told = " | ".join(messages)
    assert "candidate 1 of 2" in told
    assert not message["result"]["isError"]


def test_cancelling_between_two_candidates_frees_the_image_server(
    studio: ServerProcess, painter: OmniServer, pictures: Path
) -> None:
    before = sorted(os.listdir(pictures))
    begun = facts(studio, "generate_image", {"prompt": PROMPT, "best_of": 8, "wait_s": 0, **LONG})
    painter.wait_until_working()
    cancelled = studio.result("cancel_batch", {"batch_id": begun["job_id"]})
    assert (cancelled["status"], cancelled["cancelled"]) == ("cancelled", 1)
    begun_s = time.monotonic()
    assert facts(studio, "generate_image", {"prompt": PROMPT, "seed": 1, **SIZE})["status"] == "success"
    assert time.monotonic() - begun_s < 30
    assert len(os.listdir(pictures)) == len(before) + 1


def test_images_are_kept_where_the_chat_model_cannot_be_loaded(painter: OmniServer, tmp_path: Path) -> None:
    settings = {
        "VLLM_MODEL_NAME": str(tmp_path / "no-model"),
        "OMNI_URL": painter.url,
        "OMNI_OUTPUT_DIR": str(tmp_path),
    }
    with ServerProcess(settings) as server:
        server.initialize()
        told = facts(server, "generate_image", {"prompt": PROMPT, "seed": 4, "best_of": 2, **SIZE})
    assert (told["status"], told["check"]) == ("success", None)
    assert [each["chosen"] for each in told["candidates"]] == [True, False]
    assert told["notes"][-1].startswith("The candidates were not compared: ")
    assert shown(Path(told["file_path"]).read_bytes()).colour == "red"
