"""The image tools over a scripted vLLM-Omni server."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.gpu import Device
from engine.memory import MemoryUse
from handlers.files import read_written_file, written_files
from mcp_protocol.versions import Revision
from omni.job import State
from tests.scripted_omni import ScriptedOmni, refuses
from tests.unit.handlers.conftest import Desk, picture
from tests.unit.handlers.media_answers import blocks, facts

Json = dict[str, Any]
GB = 1 << 30
WAIT_S = 10.0
SMALL = {"width": 64, "height": 64}


@pytest.fixture
def omni() -> Iterator[ScriptedOmni]:
    with ScriptedOmni() as server:
        yield server


@pytest.fixture
def studio(make_desk: Callable[..., Desk], omni: ScriptedOmni, tmp_path: Path) -> Desk:
    """A desk whose pictures come from the scripted server and go into `out`."""
    return make_desk(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"))


def measure(desk: Desk, monkeypatch: pytest.MonkeyPatch, free_gb: float | None) -> None:
    """Puts a GPU with so much free memory into the machine, or none."""
    gpus = () if free_gb is None else (Device(0, "RTX", 32 * GB, 13 * GB, int(free_gb * GB), 0, 5, 50),)
    monkeypatch.setattr(desk.services, "memory_use", lambda: MemoryUse(GB, GB, gpus))


def test_picture_comes_as_facts_preview_and_link(studio: Desk, tmp_path: Path) -> None:
    text, image, link = blocks(studio, "generate_image", {"prompt": "A cat", "seed": 42, **SMALL})
    told = json.loads(text["text"])
    path = Path(told["file_path"])
    assert path.parent == tmp_path / "out"
    assert told == {
        "status": "success",
        "file_path": str(path),
        "generation_time_seconds": told["generation_time_seconds"],
        "parameters_used": {
            "model": "black-forest-labs/FLUX.2-klein-4B",
            "prompt": "A cat",
            "width": 64,
            "height": 64,
            "steps": 4,
            "guidance_scale": 1.0,
            "seed": 42,
        },
        "job_id": told["job_id"],
    }
    assert (image["type"], image["mimeType"]) == ("image", "image/jpeg")
    assert base64.b64decode(image["data"])[:2] == b"\xff\xd8"
    assert link == {
        "type": "resource_link",
        "uri": path.as_uri(),
        "name": path.name,
        "description": "A cat",
        "mimeType": "image/png",
        "size": path.stat().st_size,
    }


def test_folder_whose_name_is_not_utf8_is_told_as_a_url(
    make_desk: Callable[..., Desk], omni: ScriptedOmni, tmp_path: Path
) -> None:
    folder = os.fsencode(tmp_path) + b"/\xe9t\xe9"
    desk = make_desk(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=os.fsdecode(folder))
    text, shown, link = blocks(desk, "generate_image", {"prompt": "a", **SMALL})
    path = json.loads(text["text"])["file_path"]
    assert path.startswith(f"file://{tmp_path}/%E9t%E9/img_")
    assert link["uri"] == path
    assert shown["type"] == "image"
    (name,) = os.listdir(folder)
    assert path.endswith(os.fsdecode(name))
    (listed,) = [one.uri for one in written_files(desk.services)]
    assert listed == path
    read = read_written_file(path, desk.services)
    assert read.data[:4] == b"\x89PNG"
    batch = facts(desk, "batch_generate", {"prompts": ["a"], "preview": "none", **SMALL})
    assert batch["results"][0]["file_path"].startswith(f"file://{tmp_path}/%E9t%E9/img_")


@pytest.mark.parametrize(
    ("preview", "kinds"),
    [
        ("none", ["text", "resource_link"]),
        ("small", ["text", "image", "resource_link"]),
        ("full", ["text", "image", "resource_link"]),
    ],
)
def test_preview_is_as_asked_for(studio: Desk, preview: str, kinds: list[str]) -> None:
    content = blocks(studio, "generate_image", {"prompt": "a", "preview": preview, **SMALL})
    assert [block["type"] for block in content] == kinds
    if preview == "full":
        assert content[1]["mimeType"] == "image/png"


def test_older_revisions_get_no_link(studio: Desk) -> None:
    call = studio.make_call("generate_image", {"prompt": "a", **SMALL})
    call.revision = Revision("2025-03-26")
    assert [block["type"] for block in studio.toolbox.run(call)["content"]] == ["text", "image"]


def test_full_preview_that_no_result_can_hold_is_reduced_with_a_note(
    make_desk: Callable[..., Desk], omni: ScriptedOmni, tmp_path: Path
) -> None:
    noisy = Image.frombytes("RGB", (256, 256), os.urandom(256 * 256 * 3))
    noisy.save(tmp_path / "noisy.png")
    data = base64.b64encode((tmp_path / "noisy.png").read_bytes()).decode()
    omni.script(lambda request, fields: request.answer(json.dumps({"data": [{"b64_json": data}]}).encode()))
    desk = make_desk(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path), VLLM_MAX_RESULT_BYTES="25000")
    told = facts(desk, "generate_image", {"prompt": "a", "width": 256, "height": 256, "preview": "full"})
    assert told["notes"] == ["The picture is too large for a result at its own size; the preview is reduced."]


def test_notes_say_what_was_not_followed(studio: Desk, omni: ScriptedOmni) -> None:
    told = facts(studio, "generate_image", {"prompt": "a", "negative_prompt": "blurry", **SMALL})
    assert told["notes"] == ["negative_prompt was ignored: this model does not support negative prompts."]
    assert "negative_prompt" not in omni.generations()[0]


def test_pictures_to_begin_from_go_to_the_edits_endpoint(studio: Desk, omni: ScriptedOmni, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("red"))
    data_url = "data:image/png;base64," + base64.b64encode(picture("blue")).decode()
    told = facts(
        studio, "generate_image", {"prompt": "swap", "image_paths": [str(tmp_path / "a.png"), data_url], **SMALL}
    )
    assert told["parameters_used"]["reference_images"] == 2
    assert [path for _, path, _ in omni.seen][-1] == "/v1/images/edits"


def test_edit_without_a_size_keeps_the_shape_of_the_upright_first_image(
    studio: Desk, omni: ScriptedOmni, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (320, 128), "red").save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "b.png").write_bytes(picture("blue"))
    paths = [str(tmp_path / "turned.jpg"), str(tmp_path / "b.png")]
    blocks(studio, "generate_image", {"prompt": "swap", "image_paths": paths})
    assert b'name="size"\r\n\r\n128x320\r\n' in omni.seen[-1][2]["body"]


def test_picture_to_begin_from_that_cannot_be_read_is_named(studio: Desk, omni: ScriptedOmni, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("red"))
    paths = [str(tmp_path / "a.png"), "/nowhere/b.png"]
    error = studio.error("generate_image", {"prompt": "swap", "image_paths": paths})
    assert error == 'arguments.image_paths[1]: There is no file "/nowhere/b.png".'
    assert omni.generations() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "arguments.prompt: expected str of length >= 1"),
        ({"prompt": "a", "width": 0}, "arguments.width: expected int >= 16"),
        ({"prompt": "a", "width": 1, "height": 100_000}, "arguments.width"),
        ({"prompt": "a", "height": 100_000}, "arguments.height: expected int <= 16384"),
        ({"prompt": "a", "width": 17}, "Width 17 is not a multiple of 16. Nearest valid width is 16."),
        ({"prompt": "a", "width": True}, "arguments.width: expected int"),
        ({"prompt": "a", "width": "512 px"}, "arguments.width: expected int"),
        ({"prompt": "a", "num_inference_steps": 0}, "arguments.num_inference_steps: expected int >= 1"),
        ({"prompt": "a", "num_inference_steps": 10**6}, "arguments.num_inference_steps: expected int <= 200"),
        ({"prompt": "a", "seed": -1}, "arguments.seed: expected int >= 0"),
        ({"prompt": "a", "seed": 2**64}, "arguments.seed"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "arguments.guidance_scale"),
        ({"prompt": "a", "guidance_scale": -0.1}, "arguments.guidance_scale: expected float >= 0"),
        ({"prompt": "a", "guidance_scale": 1e9}, "arguments.guidance_scale"),
        ({"prompt": "a", "aspect_ratio": "21:9"}, "not one of this model's"),
        ({"prompt": "a", "aspect_ratio": "x" * 50}, "arguments.aspect_ratio"),
        ({"prompt": "a", "filename": "../../etc/x"}, "filename: a plain name"),
        ({"prompt": "a", "filename": "x\0"}, "filename"),
        ({"prompt": "a", "image_paths": []}, "arguments.image_paths: expected array of length >= 1"),
        ({"prompt": "a", "image_paths": ["a"] * 5}, "arguments.image_paths: expected array of length <= 4"),
        ({"prompt": "a", "preview": "huge"}, "arguments.preview"),
        ({"prompt": "a", "output_dir": "/etc"}, "there is no such argument"),
        ({"prompt": "a", "n": 4}, "there is no such argument"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_made(
    studio: Desk, omni: ScriptedOmni, tmp_path: Path, arguments: Json, text: str
) -> None:
    assert text in studio.error("generate_image", arguments)
    assert omni.generations() == []
    assert not any((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"prompts": []}, "arguments.prompts: expected array of length >= 1"),
        ({"prompts": ["a"] * 21}, "arguments.prompts: expected array of length <= 20"),
        ({"prompts": "a"}, "arguments.prompts: expected array"),
        ({"prompts": ["a", ""]}, "arguments.prompts[1]: expected str of length >= 1"),
        ({"prompts": ["a", "b"], "seeds": [1]}, "arguments.seeds: there are 1 seeds for 2 prompts"),
        ({"prompts": ["a"], "max_concurrent": 0}, "arguments.max_concurrent: expected int >= 1"),
    ],
)
def test_bad_batches_are_refused(studio: Desk, omni: ScriptedOmni, arguments: Json, text: str) -> None:
    assert text in studio.error("batch_generate", arguments)
    assert omni.generations() == []


@pytest.mark.parametrize("n_prompts", [1, 20])
def test_batch_answers_in_order_with_one_sheet_and_all_links(studio: Desk, n_prompts: int) -> None:
    prompts = [f"cat {number}" for number in range(n_prompts)]
    seeds = list(range(n_prompts))
    content = blocks(studio, "batch_generate", {"prompts": prompts, "seeds": seeds, **SMALL})
    assert [block["type"] for block in content] == ["text", "image", *["resource_link"] * n_prompts]
    told = json.loads(content[0]["text"])
    assert (told["status"], told["images_generated"], told["images_failed"]) == ("success", n_prompts, 0)
    assert [(entry["index"], entry["prompt"], entry["seed"]) for entry in told["results"]] == [
        (number, prompt, number) for number, prompt in enumerate(prompts)
    ]
    assert len({entry["file_path"] for entry in told["results"]}) == n_prompts


def test_batch_survives_a_bad_prompt(studio: Desk, omni: ScriptedOmni) -> None:
    omni.script(omni.honest, refuses(500, "boom"), omni.honest)
    told = facts(studio, "batch_generate", {"prompts": ["a", "b", "c"], **SMALL})
    assert (told["status"], told["images_generated"], told["images_failed"]) == ("success", 2, 1)
    assert told["results"][1]["error"] == "The vLLM server failed (HTTP 500): boom."


def test_batch_in_which_all_fail_is_an_error_with_every_reason(studio: Desk, omni: ScriptedOmni) -> None:
    omni.script(refuses(500, "CUDA out of memory"))
    told = json.loads(studio.error("batch_generate", {"prompts": ["a", "b"], **SMALL}))
    assert (told["status"], told["images_failed"]) == ("error", 2)
    assert told["results"][0]["error"] == (
        "Server returned out-of-memory error. Try reducing resolution or use `gpu_status` to check available memory."
    )


def test_failed_picture_is_an_error(studio: Desk, omni: ScriptedOmni) -> None:
    omni.script(refuses(500, "boom"))
    assert studio.error("generate_image", {"prompt": "a", **SMALL}) == "The vLLM server failed (HTTP 500): boom."


def test_call_that_may_not_wait_answers_with_the_job(studio: Desk, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.1
    begun = facts(studio, "generate_image", {"prompt": "a", "seed": 3, "wait_s": 0, **SMALL})
    assert (begun["status"], begun["completed"], begun["total"]) == ("running", 0, 1)
    done = facts(studio, "job_status", {"job_id": begun["job_id"], "wait_s": WAIT_S})
    assert (done["status"], done["parameters_used"]["seed"]) == ("success", 3)


def test_deadline_of_the_call_ends_the_waiting(studio: Desk, omni: ScriptedOmni) -> None:
    omni.delay_s = 1.0
    begun_s = time.monotonic()
    told = facts(studio, "batch_generate", {"prompts": ["a", "b"], **SMALL}, timeout_s=0.5)
    assert time.monotonic() - begun_s < 0.9
    assert told["status"] == "running"
    assert told["batch_id"].startswith("batch_")


def test_call_about_jobs_behind_it_ends_the_waiting(studio: Desk, omni: ScriptedOmni) -> None:
    omni.delay_s = 1.0
    call = studio.make_call("batch_generate", {"prompts": ["a", "b"], **SMALL})
    threading.Timer(0.1, lambda: setattr(call, "hurried", lambda: True)).start()
    told = json.loads(studio.toolbox.run(call)["content"][0]["text"])
    assert told["status"] == "running"


def test_cancelled_call_cancels_its_job(studio: Desk, omni: ScriptedOmni) -> None:
    omni.delay_s = 1.0
    call = studio.make_call("batch_generate", {"prompts": ["a", "b"], **SMALL})

    def stop_when_it_runs() -> None:
        while not omni.generations():
            time.sleep(0.002)
        call.stop()

    threading.Thread(target=stop_when_it_runs).start()
    assert studio.toolbox.run(call)["isError"]
    (job,) = studio.services.jobs.list()
    assert job.wait(WAIT_S)
    assert job.state == "cancelled"


def test_progress_counts_pictures_and_begins_with_the_id(studio: Desk) -> None:
    told = facts(studio, "batch_generate", {"prompts": ["a", "b"], **SMALL}, progress_token="p")
    sent = [message["params"] for message in studio.sent]
    assert sent[0]["message"] == f"{told['batch_id']}: 0 of 2 done"
    assert sent[-1] == {"progressToken": "p", "progress": 2, "total": 2, "message": f"{told['batch_id']}: 2 of 2 done"}
    assert [each["progress"] for each in sent] == sorted({each["progress"] for each in sent})


def test_progress_of_one_picture_is_the_time(studio: Desk, omni: ScriptedOmni) -> None:
    told = facts(studio, "generate_image", {"prompt": "a", **SMALL}, progress_token="p")
    assert studio.sent[0]["params"]["message"].startswith(f"{told['job_id']}: ")


def test_cancelling_before_during_and_after(studio: Desk, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.3
    arguments = {"prompts": ["a", "b", "c", "d"], "max_concurrent": 1, "wait_s": 0, **SMALL}
    first = facts(studio, "batch_generate", arguments)["batch_id"]
    second = facts(studio, "batch_generate", arguments)["batch_id"]
    before = studio.result("cancel_batch", {"batch_id": second})
    assert (before.status, before.completed, before.cancelled, before.files_saved) == ("cancelled", 0, 4, [])
    job = studio.services.jobs.find(first)
    until_s = time.monotonic() + WAIT_S
    while job.count(State.SUCCEEDED) < 1 and time.monotonic() < until_s:
        time.sleep(0.005)
    during = studio.result("cancel_batch", {"batch_id": first})
    assert during.status == "cancelled"
    assert 1 <= during.completed == len(during.files_saved) < 4
    assert during.completed + during.cancelled == 4
    assert all(os.path.exists(path) for path in during.files_saved)
    after = studio.result("cancel_batch", {"batch_id": first})
    assert after.status == "cancelled"
    assert "nothing to cancel" in after.message
    assert after.files_saved == during.files_saved
    assert facts(studio, "job_status", {"job_id": first})["status"] == "cancelled"


def test_cancelling_a_finished_batch_changes_nothing(studio: Desk) -> None:
    batch_id = facts(studio, "batch_generate", {"prompts": ["a"], **SMALL})["batch_id"]
    answer = studio.result("cancel_batch", {"batch_id": batch_id})
    assert (answer.status, answer.completed, answer.cancelled) == ("succeeded", 1, 0)


@pytest.mark.parametrize("tool", ["cancel_batch", "job_status"])
def test_unknown_jobs_are_refused(studio: Desk, tool: str) -> None:
    argument = "batch_id" if tool == "cancel_batch" else "job_id"
    for job_id in ("batch_none", "../x", "x" * 200):
        assert "There is no job" in studio.error(tool, {argument: job_id})
    assert f"arguments.{argument}" in studio.error(tool, {argument: "x" * 201})


def test_jobs_are_listed_newest_first(studio: Desk, omni: ScriptedOmni) -> None:
    first = facts(studio, "generate_image", {"prompt": "a" * 300, **SMALL})["job_id"]
    omni.script(refuses(500, "boom"))
    studio.error("batch_generate", {"prompts": ["b", "c"], **SMALL})
    listed = studio.result("list_jobs")
    assert [(job.kind, job.status, job.completed, job.failed, job.total) for job in listed.jobs] == [
        ("batch", "failed", 0, 2, 2),
        ("image", "succeeded", 1, 0, 1),
    ]
    assert listed.jobs[1].job_id == first
    assert len(listed.jobs[1].about) == 100
    assert [job.job_id for job in studio.result("list_jobs", {"status": "succeeded"}).jobs] == [first]
    assert studio.result("list_jobs", {"limit": 1}).total_count == 2


def test_batch_that_waits_for_another_shares_its_limit(studio: Desk, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.05
    arguments = {"prompts": ["a"] * 4, "max_concurrent": 2, **SMALL}
    first = facts(studio, "batch_generate", {**arguments, "wait_s": 0})["batch_id"]
    facts(studio, "batch_generate", arguments)
    assert facts(studio, "job_status", {"job_id": first, "wait_s": WAIT_S})["images_generated"] == 4
    assert omni.most_running == 2


@pytest.mark.parametrize(("free_gb", "at_once"), [(19.0, 4), (5.0, 2), (0.5, 1), (None, 1)])
def test_batch_takes_as_many_at_once_as_the_gpu_allows(
    studio: Desk, omni: ScriptedOmni, monkeypatch: pytest.MonkeyPatch, free_gb: float | None, at_once: int
) -> None:
    measure(studio, monkeypatch, free_gb)
    omni.delay_s = 0.05
    facts(studio, "batch_generate", {"prompts": ["a"] * 8, "preview": "none", **SMALL})
    assert omni.most_running == at_once


def test_setting_says_how_many_at_once(make_desk: Callable[..., Desk], omni: ScriptedOmni, tmp_path: Path) -> None:
    desk = make_desk(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path), OMNI_MAX_CONCURRENT="3")
    omni.delay_s = 0.05
    facts(desk, "batch_generate", {"prompts": ["a"] * 8, "preview": "none", **SMALL})
    assert omni.most_running == 3


def test_model_info_and_presets(studio: Desk) -> None:
    info = studio.result("get_model_info")
    assert (info.model_name, info.model_type) == ("black-forest-labs/FLUX.2-klein-4B", "distilled")
    assert (info.recommended_parameters.num_inference_steps, info.recommended_parameters.guidance_scale) == (4, 1.0)
    assert info.recommended_parameters.default_resolution == "1024x1024"
    assert info.supported_aspect_ratios["16:9"] == "1024x576"
    assert (info.supports_negative_prompt, info.estimated_vram_gb, info.in_registry) == (False, 13, True)
    presets = studio.result("list_presets")
    assert (presets.resolution_multiple, presets.max_megapixels, presets.presets["3:4"]) == (16, 4.0, "768x1024")


def test_gpu_status_is_measured_where_there_is_a_gpu(studio: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(studio, monkeypatch, 19.0)
    status = studio.result("gpu_status")
    assert (status.gpu_name, status.total_vram_gb, status.used_vram_gb, status.free_vram_gb) == ("RTX", 32, 13, 19)
    assert (status.estimated_model_vram_gb, status.recommended_max_concurrent, status.source) == (13, 4, "measured")
    assert status.server_status == "healthy"


def test_gpu_status_says_that_it_estimates(studio: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(studio, monkeypatch, None)
    status = studio.result("gpu_status")
    assert (status.total_vram_gb, status.free_vram_gb, status.source) == (None, None, "estimated")
    assert "about 13 GB by its profile" in status.notes


def test_estimate_learns_from_what_was_made(studio: Desk) -> None:
    guess = studio.result("estimate_generation", {"num_images": 5})
    assert (guess.source, guess.estimated_time_per_image_seconds, guess.estimated_total_time_seconds) == (
        "profile",
        1.5,
        7.5,
    )
    assert (guess.resolution, guess.total_megapixels_per_image, guess.estimated_peak_vram_gb) == ("1024x1024", 1.05, 15)
    for _ in range(3):
        facts(studio, "generate_image", {"prompt": "a", **SMALL})
    learnt = studio.result("estimate_generation", SMALL)
    assert (learnt.source, learnt.estimated_time_per_image_seconds) == ("measured", 0.05)
    assert "From 2 generations" in learnt.notes
    assert "not a multiple" in studio.error("estimate_generation", {"width": 100})


def test_server_that_is_down(make_desk: Callable[..., Desk], tmp_path: Path) -> None:
    desk = make_desk(OMNI_URL="http://127.0.0.1:1", OMNI_OUTPUT_DIR=str(tmp_path / "out"))
    text = "Cannot connect to vLLM server at http://127.0.0.1:1. Is the container running?"
    for tool, arguments in (
        ("generate_image", {"prompt": "a"}),
        ("batch_generate", {"prompts": ["a"]}),
        ("get_model_info", {}),
        ("list_presets", {}),
        ("estimate_generation", {}),
    ):
        assert text in desk.error(tool, arguments)
    assert desk.result("gpu_status").server_status == "unreachable"
    health = desk.result("server_health")
    assert (health.status, health.model_loaded, health.latency_ms, health.version) == ("unreachable", None, None, None)
    assert "OMNI_URL" in health.message
    assert not (tmp_path / "out").exists()


def test_healthy_and_unhealthy_servers(studio: Desk, omni: ScriptedOmni) -> None:
    health = studio.result("server_health")
    assert (health.server_url, health.status, health.version) == (omni.url, "healthy", "0.30.0")
    assert health.model_loaded == "black-forest-labs/FLUX.2-klein-4B"
    omni.script(refuses(503, "engine is dead"), path="/health")
    health = studio.result("server_health")
    assert (health.status, health.model_loaded) == ("unhealthy", None)
    assert "engine is dead" in health.message


@pytest.mark.parametrize("status", [403, 404, 405])
def test_server_that_does_not_tell_its_model_is_healthy_and_makes_pictures(
    studio: Desk, omni: ScriptedOmni, status: int
) -> None:
    omni.script(refuses(status, "not for you"), path="/v1/models")
    health = studio.result("server_health")
    assert (health.status, health.model_loaded) == ("healthy", None)
    assert "It does not tell its model." in health.message
    assert "not for you" in health.message
    assert facts(studio, "generate_image", {"prompt": "a", **SMALL})["parameters_used"]["model"] == "unknown"
    assert studio.result("get_model_info").model_name == "unknown"
    assert studio.result("list_presets").presets["16:9"] == "1360x768"
    omni.script(refuses(status, "not for you"), path="/health")
    assert studio.result("server_health").status == "unhealthy"


def test_server_without_a_health_page_is_healthy(studio: Desk, omni: ScriptedOmni) -> None:
    omni.script(refuses(404, "Not Found"), path="/health")
    health = studio.result("server_health")
    assert (health.status, health.message) == ("healthy", None)


def test_pictures_are_resources(studio: Desk) -> None:
    from handlers.resources import catalogues

    told = facts(studio, "generate_image", {"prompt": "a", **SMALL})
    uri = Path(told["file_path"]).as_uri()
    shown = catalogues(studio.services)
    assert uri in [resource.uri for resource in shown.resources({})["resources"]]


def test_pictures_whose_folder_breaks_meanwhile_are_shown_in_any_case(
    studio: Desk, omni: ScriptedOmni, tmp_path: Path
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
    text, image = blocks(studio, "batch_generate", answer)[:2]
    told = json.loads(text["text"])
    assert [entry["file_path"] is None for entry in told["results"]] == [False, True]
    assert told["notes"][0].startswith("Image 1: No file was written: The output folder ")
    assert image["mimeType"] == "image/jpeg"
    folder.unlink()
    text, image = blocks(studio, "generate_image", {"prompt": "b", "preview": "none", **SMALL})
    told = json.loads(text["text"])
    assert (told["status"], told["file_path"]) == ("not_saved", None)
    assert "the same seed makes it again" in told["notes"][0]
    assert image["type"] == "image"
