"""The image server: its model, its GPU, its health and estimates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_omni import ScriptedOmni, refuses
from tests.unit.handlers.image_calls import SMALL, Json, measure
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client


def test_model_info_and_presets(omni_client: Client) -> None:
    info = omni_client.result("get_model_info")
    assert (info.model_name, info.model_type) == ("black-forest-labs/FLUX.2-klein-4B", "distilled")
    assert (info.recommended_parameters.num_inference_steps, info.recommended_parameters.guidance_scale) == (4, 1.0)
    assert info.recommended_parameters.default_resolution == "1024x1024"
    assert info.supported_aspect_ratios["16:9"] == "1024x576"
    assert (info.supports_negative_prompt, info.estimated_vram_gb, info.in_registry) == (False, 13, True)
    presets = omni_client.result("list_presets")
    assert (presets.resolution_multiple, presets.max_megapixels, presets.presets["3:4"]) == (16, 4.0, "768x1024")


def test_gpu_status_is_measured_where_there_is_a_gpu(omni_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(omni_client, monkeypatch, 19.0)
    status = omni_client.result("gpu_status")
    assert (status.gpu_name, status.total_vram_gb, status.used_vram_gb, status.free_vram_gb) == ("RTX", 32, 13, 19)
    assert (status.estimated_model_vram_gb, status.recommended_max_concurrent, status.source) == (13, 4, "measured")
    assert status.server_status == "healthy"


def test_gpu_status_says_that_it_estimates(omni_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(omni_client, monkeypatch, None)
    status = omni_client.result("gpu_status")
    assert (status.total_vram_gb, status.free_vram_gb, status.source) == (None, None, "estimated")
    assert "about 13 GB by its profile" in status.notes


def test_estimate_learns_from_what_was_made(omni_client: Client) -> None:
    guess = omni_client.result("estimate_generation", {"num_images": 5})
    assert (guess.source, guess.estimated_time_per_image_seconds, guess.estimated_total_time_seconds) == (
        "profile",
        1.5,
        7.5,
    )
    assert (guess.resolution, guess.total_megapixels_per_image, guess.estimated_peak_vram_gb) == ("1024x1024", 1.05, 15)
    for _ in range(3):
        facts(omni_client, "generate_image", {"prompt": "a", **SMALL})
    learnt = omni_client.result("estimate_generation", SMALL)
    assert (learnt.source, learnt.estimated_time_per_image_seconds) == ("measured", 0.05)
    assert "From 2 earlier generations" in learnt.notes
    assert "not a multiple" in omni_client.error("estimate_generation", {"width": 100})


def test_server_that_is_down(make_client: Callable[..., Client], tmp_path: Path) -> None:
    client = make_client(OMNI_URL="http://127.0.0.1:1", OMNI_OUTPUT_DIR=str(tmp_path / "out"))
    text = "Cannot connect to vLLM server at http://127.0.0.1:1. Is the container running?"
    for tool, arguments in (
        ("generate_image", {"prompt": "a"}),
        ("batch_generate", {"prompts": ["a"]}),
        ("get_model_info", {}),
        ("list_presets", {}),
        ("estimate_generation", {}),
    ):
        assert text in client.error(tool, arguments)
    assert client.result("gpu_status").server_status == "unreachable"
    health = client.result("server_health")
    assert (health.status, health.model_loaded, health.latency_ms, health.version) == ("unreachable", None, None, None)
    assert "OMNI_URL" in health.message
    assert not (tmp_path / "out").exists()


def test_healthy_and_unhealthy_servers(omni_client: Client, omni: ScriptedOmni) -> None:
    health = omni_client.result("server_health")
    assert (health.server_url, health.status, health.version) == (omni.url, "healthy", "0.30.0")
    assert health.model_loaded == "black-forest-labs/FLUX.2-klein-4B"
    omni.script(refuses(503, "engine is dead"), path="/health")
    health = omni_client.result("server_health")
    assert (health.status, health.model_loaded) == ("unhealthy", None)
    assert "engine is dead" in health.message


@pytest.mark.parametrize("status", [403, 404, 405])
def test_server_that_does_not_tell_its_model_is_healthy_and_makes_images(
    omni_client: Client, omni: ScriptedOmni, status: int
) -> None:
    omni.script(refuses(status, "not for you"), path="/v1/models")
    health = omni_client.result("server_health")
    assert (health.status, health.model_loaded) == ("healthy", None)
    assert "The server does not report its model." in health.message
    assert "not for you" in health.message
    assert facts(omni_client, "generate_image", {"prompt": "a", **SMALL})["parameters_used"]["model"] == "unknown"
    assert omni_client.result("get_model_info").model_name == "unknown"
    assert omni_client.result("list_presets").presets["16:9"] == "1360x768"
    omni.script(refuses(status, "not for you"), path="/health")
    assert omni_client.result("server_health").status == "unhealthy"


def test_server_without_a_health_page_is_healthy(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(refuses(404, "Not Found"), path="/health")
    health = omni_client.result("server_health")
    assert (health.status, health.message) == ("healthy", None)


def test_images_are_resources(omni_client: Client) -> None:
    from handlers.resources.resources import resource_registry

    told = facts(omni_client, "generate_image", {"prompt": "a", **SMALL})
    uri = Path(told["file_path"]).as_uri()
    shown = resource_registry(omni_client.services)
    assert uri in [resource.uri for resource in shown.resources({})["resources"]]


def test_images_whose_folder_breaks_meanwhile_are_shown_in_any_case(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path
) -> None:
    folder = tmp_path / "out"

    def breaks_the_folder(request: Any, fields: Json) -> None:
        if fields["prompt"] == "b" and folder.is_dir():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            folder.write_bytes(b"")
        omni.honest(request, fields)

    omni.script(breaks_the_folder)
    answer = {"prompts": ["a", "b"], "seeds": [1, 2], "max_concurrent": 1, "preview": "none", **SMALL}
    text, image = blocks(omni_client, "batch_generate", answer)[:2]
    told = json.loads(text["text"])
    assert [entry["file_path"] is None for entry in told["results"]] == [False, True]
    assert told["notes"][0].startswith("Image 1: No file was written: The output folder ")
    assert image["mimeType"] == "image/jpeg"
    folder.unlink()
    text, image = blocks(omni_client, "generate_image", {"prompt": "b", "preview": "none", **SMALL})
    told = json.loads(text["text"])
    assert (told["status"], told["file_path"]) == ("not_saved", None)
    assert "the same seed makes the image again" in told["notes"][0]
    assert image["type"] == "image"
