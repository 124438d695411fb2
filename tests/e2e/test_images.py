"""The image tools: the real server over its pipes, in front of a real vLLM-Omni on the CPU with a tiny random model."""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.images import drawn, png
from tests.e2e.media_answers import content, error, facts
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
SMALL: Json = {"width": 64, "height": 64, "num_inference_steps": 2, "guidance_scale": 1.0}
LONG: Json = {"width": 512, "height": 512, "num_inference_steps": 200, "guidance_scale": 1.0}
"""Takes minutes on a CPU where nothing stops it."""
SOON_S = 30.0
FREED_S = 4.0
"""How much longer a request may take whose server has to stop another first."""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def studio(omni_image_server: OmniServer, out: Path) -> Iterator[ServerProcess]:
    """A server of the test's own in front of the shared vLLM-Omni."""
    with ServerProcess({"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(out)}) as process:
        process.initialize()
        yield process


def pixels(path: str) -> bytes:
    """What an image file shows."""
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def small_request_s(omni: OmniServer) -> float:
    """How long the smallest image takes, asked of vLLM-Omni itself."""
    begun_s = time.monotonic()
    fields = {"prompt": "a", "size": "64x64", "num_inference_steps": 1, "guidance_scale": 1.0, "seed": 1}
    httpx.post(f"{omni.url}/v1/images/generations", json=fields, timeout=SOON_S).raise_for_status()
    return time.monotonic() - begun_s


def begin_batch(server: ServerProcess, n_prompts: int, arguments: Json) -> str:
    """Starts a batch that is not waited for; its id."""
    prompts = [f"image {number}" for number in range(n_prompts)]
    batch = facts(server, "batch_generate", {"prompts": prompts, "wait_s": 0, **arguments})
    assert batch["status"] == "running"
    return str(batch["batch_id"])


def wait_until_done(server: ServerProcess, batch_id: str, n_images: int) -> None:
    """Waits until so many images of a batch are there."""
    until_s = time.monotonic() + SOON_S
    while True:
        (job,) = [job for job in server.result("list_jobs")["jobs"] if job["job_id"] == batch_id]
        if job["completed"] >= n_images:
            return
        assert time.monotonic() < until_s, job
        time.sleep(0.02)


def test_image_is_saved_shown_and_can_be_read(studio: ServerProcess, out: Path) -> None:
    text, image, link = content(studio, "generate_image", {"prompt": "a red circle", "seed": 5, **SMALL})
    told = json.loads(text["text"])
    path = Path(told["file_path"])
    assert path.parent == out
    assert told["parameters_used"]["seed"] == 5
    with Image.open(path) as saved:
        assert (saved.format, saved.size) == ("PNG", (64, 64))
        assert json.loads(saved.text["parameters"]) == told["parameters_used"]  # type: ignore[attr-defined]
    with Image.open(io.BytesIO(base64.b64decode(image["data"]))) as preview:
        assert (preview.format, preview.size) == ("JPEG", (64, 64))
    listed = studio.request("resources/list")["result"]["resources"]
    assert link["uri"] in [resource["uri"] for resource in listed]
    read = studio.request("resources/read", {"uri": link["uri"]})["result"]["contents"][0]
    assert base64.b64decode(read["blob"]) == path.read_bytes()


def test_same_seed_makes_the_same_image_alone_and_in_a_batch(studio: ServerProcess) -> None:
    prompts = ["a cat", "a dog", "a bird"]
    alone = [facts(studio, "generate_image", {"prompt": p, "seed": n, **SMALL}) for n, p in enumerate(prompts)]
    batch = facts(studio, "batch_generate", {"prompts": prompts, "seeds": [0, 1, 2], "max_concurrent": 2, **SMALL})
    together = [entry["file_path"] for entry in batch["results"]]
    assert [pixels(each["file_path"]) for each in alone] == [pixels(path) for path in together]
    other = facts(studio, "generate_image", {"prompt": "a cat", "seed": 99, **SMALL})
    assert pixels(other["file_path"]) != pixels(together[0])


def test_seed_that_was_drawn_makes_the_image_again(studio: ServerProcess) -> None:
    first = facts(studio, "generate_image", {"prompt": "a cat", **SMALL})
    seed = first["parameters_used"]["seed"]
    again = facts(studio, "generate_image", {"prompt": "a cat", "seed": seed, **SMALL})
    assert Path(first["file_path"]).read_bytes() == Path(again["file_path"]).read_bytes()


def test_batch_of_twenty(studio: ServerProcess, out: Path) -> None:
    prompts = [f"image {number}" for number in range(20)]
    told = content(studio, "batch_generate", {"prompts": prompts, **SMALL})
    summary = json.loads(told[0]["text"])
    assert (summary["images_generated"], summary["images_failed"]) == (20, 0)
    assert [entry["prompt"] for entry in summary["results"]] == prompts
    assert [block["type"] for block in told] == ["text", "image", *["resource_link"] * 20]
    assert len(os.listdir(out)) == 20


@pytest.mark.parametrize("n_prompts", [0, 21])
def test_too_few_and_too_many_prompts_are_refused(studio: ServerProcess, out: Path, n_prompts: int) -> None:
    assert "arguments.prompts" in error(studio, "batch_generate", {"prompts": ["a"] * n_prompts})
    assert not out.exists()


def test_image_from_an_image(studio: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(drawn("blue", "circle", "red")))
    arguments = {"prompt": "make it green", "image_paths": [str(tmp_path / "a.png")], "seed": 1, **SMALL}
    edited = facts(studio, "generate_image", arguments)
    assert edited["parameters_used"]["reference_images"] == 1
    assert pixels(edited["file_path"]) == pixels(facts(studio, "generate_image", arguments)["file_path"])
    from_words = {key: value for key, value in arguments.items() if key != "image_paths"}
    assert pixels(edited["file_path"]) != pixels(facts(studio, "generate_image", from_words)["file_path"])


def test_tools_that_make_nothing(studio: ServerProcess, omni_image_server: OmniServer, out: Path) -> None:
    health = studio.result("server_health")
    assert (health["status"], health["server_url"]) == ("healthy", omni_image_server.url)
    assert health["latency_ms"] > 0
    model = health["model_loaded"]
    assert studio.result("get_model_info")["model_name"] == model
    assert studio.result("list_presets")["model"] == model
    status = studio.result("gpu_status")
    assert (status["server_status"], status["recommended_max_concurrent"] >= 1) == ("healthy", True)
    assert studio.result("estimate_generation")["source"] == "profile"
    assert studio.result("list_jobs") == {"jobs": [], "total_count": 0}
    assert not out.exists()
    for _ in range(2):
        facts(studio, "generate_image", {"prompt": "a", **SMALL})
    learnt = studio.result("estimate_generation", {"width": 64, "height": 64, "num_inference_steps": 2})
    assert learnt["source"] == "measured"
    assert 0 < learnt["estimated_time_per_image_seconds"] < 10
    assert studio.result("gpu_status")["last_peak_memory_gb"] > 0


def test_unknown_model_comes_with_the_warning_and_the_fallback(studio: ServerProcess) -> None:
    info = studio.result("get_model_info")
    assert (info["in_registry"], info["recommended_parameters"]["num_inference_steps"]) == (False, 28)
    told = facts(studio, "generate_image", {"prompt": "a", "width": 64, "height": 64, "seed": 1})
    assert (told["parameters_used"]["steps"], told["parameters_used"]["guidance_scale"]) == (28, 5.0)
    assert told["notes"] == [
        f"Model '{info['model_name']}' is not in the known profiles. Using fallback defaults (steps=28, guidance=5.0). "
        "Generation may produce unexpected results."
    ]


def test_profiles_of_ones_own(omni_image_server: OmniServer, tmp_path: Path) -> None:
    name = httpx.get(f"{omni_image_server.url}/v1/models").json()["data"][0]["id"]
    profile = {"type": "distilled", "default_steps": 1, "default_guidance_scale": 1.0, "default_resolution": [64, 80]}
    (tmp_path / "profiles.json").write_text(json.dumps({name: profile}))
    settings = {
        "OMNI_URL": omni_image_server.url,
        "OMNI_OUTPUT_DIR": str(tmp_path),
        "OMNI_PROFILES": str(tmp_path / "profiles.json"),
    }
    with ServerProcess(settings) as server:
        used = facts(server, "generate_image", {"prompt": "a"})["parameters_used"]
    assert (used["steps"], used["width"], used["height"]) == (1, 64, 80)


def test_wrong_sizes_are_refused_with_the_nearest_right_one(studio: ServerProcess) -> None:
    assert error(studio, "generate_image", {"prompt": "a", "width": 1000}) == (
        "Width 1000 is not a multiple of 16. Nearest valid width is 992."
    )


def test_server_that_is_not_there(server: ServerProcess) -> None:
    assert error(server, "generate_image", {"prompt": "a"}).startswith(
        "Cannot connect to vLLM server at http://localhost:6655. Is the container running?"
    )
    assert server.result("server_health")["status"] == "unreachable"


def test_out_of_memory_is_told_and_survived(studio: ServerProcess, omni_image_server: OmniServer, out: Path) -> None:
    """The vLLM-Omni process gets no more address space than it has, as on a machine that is full."""
    held = int(Path(f"/proc/{omni_image_server.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.prlimit(omni_image_server.pid, resource.RLIMIT_AS)
    resource.prlimit(omni_image_server.pid, resource.RLIMIT_AS, (held + (96 << 20), before[1]))
    try:
        text = error(studio, "generate_image", {"prompt": "a", **SMALL, "width": 2048, "height": 2048})
    finally:
        resource.prlimit(omni_image_server.pid, resource.RLIMIT_AS, before)
    assert text == (
        "Server returned out-of-memory error. Try reducing resolution or use `gpu_status` to check available memory."
    )
    assert os.listdir(out) == []
    assert facts(studio, "generate_image", {"prompt": "a", **SMALL})["status"] == "success"


def test_cancelling_a_batch_stops_the_servers_work_and_keeps_what_is_done(
    studio: ServerProcess, omni_image_server: OmniServer
) -> None:
    prompts = ["quick", "long", "waiting"]
    quick = begin_batch(studio, 2, {**SMALL})
    wait_until_done(studio, quick, 2)
    alone_s = small_request_s(omni_image_server)
    batch_id = facts(studio, "batch_generate", {"prompts": prompts, "wait_s": 0.5, **LONG})["batch_id"]
    omni_image_server.wait_until_working()
    begun_s = time.monotonic()
    cancelled = studio.result("cancel_batch", {"batch_id": batch_id})
    assert (cancelled["status"], cancelled["completed"], cancelled["cancelled"]) == ("cancelled", 0, 3)
    small_request_s(omni_image_server)
    assert time.monotonic() - begun_s < alone_s + FREED_S
    kept = studio.result("cancel_batch", {"batch_id": quick})
    assert (kept["status"], kept["completed"]) == ("succeeded", 2)
    assert all(os.path.exists(path) for path in kept["files_saved"])


def test_cancelling_in_the_middle_keeps_the_first_images(studio: ServerProcess, out: Path) -> None:
    batch_id = begin_batch(studio, 20, {**SMALL, "num_inference_steps": 20, "max_concurrent": 1})
    wait_until_done(studio, batch_id, 1)
    cancelled = studio.result("cancel_batch", {"batch_id": batch_id})
    assert cancelled["status"] == "cancelled"
    assert 1 <= cancelled["completed"] < 20
    assert cancelled["completed"] + cancelled["cancelled"] == 20
    assert sorted(cancelled["files_saved"]) == sorted(str(path) for path in out.iterdir())
    again = studio.result("cancel_batch", {"batch_id": batch_id})
    assert (again["status"], again["files_saved"]) == ("cancelled", cancelled["files_saved"])
    assert facts(studio, "generate_image", {"prompt": "a", **SMALL})["status"] == "success"


def test_cancelled_call_has_no_answer_and_frees_the_server(
    studio: ServerProcess, omni_image_server: OmniServer
) -> None:
    alone_s = small_request_s(omni_image_server)
    request_id = studio.send_call("generate_image", {"prompt": "a", **LONG}, meta={"progressToken": "p"})
    assert studio.read_message()["method"] == "notifications/progress"
    omni_image_server.wait_until_working()
    begun_s = time.monotonic()
    studio.notify("notifications/cancelled", {"requestId": request_id})
    small_request_s(omni_image_server)
    assert time.monotonic() - begun_s < alone_s + FREED_S
    (job,) = studio.result("list_jobs")["jobs"]
    assert job["status"] == "cancelled"
    assert not any(message.get("id") == request_id for message in map(json.loads, studio.raw_lines))


def test_call_about_jobs_ends_the_waiting_of_a_batch_before_it(studio: ServerProcess) -> None:
    batch = studio.send_call("batch_generate", {"prompts": ["a", "b"], **LONG}, meta={"progressToken": "p"})
    assert studio.read_message()["method"] == "notifications/progress"  # the job is there
    listing = studio.send_call("list_jobs")
    answer = json.loads(studio.read_answer(batch)["result"]["content"][0]["text"])
    assert answer["status"] == "running"
    jobs = studio.read_answer(listing)["result"]["structuredContent"]["jobs"]
    assert [job["job_id"] for job in jobs] == [answer["batch_id"]]
    assert studio.result("cancel_batch", {"batch_id": answer["batch_id"]})["status"] == "cancelled"


def test_deadline_of_calls_answers_with_the_job(omni_image_server: OmniServer, out: Path) -> None:
    settings = {"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(out), "VLLM_CALL_TIMEOUT": "2"}
    with ServerProcess(settings) as server:
        server.initialize()
        begun_s = time.monotonic()
        told = facts(server, "generate_image", {"prompt": "a", **LONG})
        assert time.monotonic() - begun_s < SOON_S  # after 2 s the call would have failed
        assert told["status"] == "running"
        assert server.result("cancel_batch", {"batch_id": told["job_id"]})["status"] == "cancelled"


def test_end_of_input_finishes_what_was_asked(omni_image_server: OmniServer, out: Path) -> None:
    with ServerProcess({"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(out)}) as server:
        request_id = server.send_call("generate_image", {"prompt": "a", **SMALL})
        server.close_stdin()
        assert not server.read_answer(request_id)["result"]["isError"]
        assert server.wait() == 0
    assert len(os.listdir(out)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_at_once_and_frees_the_other(
    studio: ServerProcess, omni_image_server: OmniServer, out: Path, number: signal.Signals
) -> None:
    alone_s = small_request_s(omni_image_server)
    begin_batch(studio, 2, LONG)
    omni_image_server.wait_until_working()
    begun_s = time.monotonic()
    studio.signal(number)
    studio.assert_ends_promptly(begun_s)
    assert small_request_s(omni_image_server) < alone_s + FREED_S
    assert os.listdir(out) == []


def test_server_that_dies_in_the_middle_of_a_batch_and_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    omni = OmniServer("klein")
    with omni, ServerProcess({"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(out)}) as server:
        server.initialize()
        batch_id = begin_batch(server, 6, {**SMALL, "num_inference_steps": 40, "max_concurrent": 1})
        wait_until_done(server, batch_id, 1)
        omni.kill()
        summary = facts(server, "job_status", {"job_id": batch_id, "wait_s": SOON_S})
        assert summary["images_generated"] >= 1
        assert summary["images_generated"] + summary["images_failed"] == 6
        errors = {entry["error"] for entry in summary["results"] if "error" in entry}
        assert all(text.startswith(("The connection to the vLLM server", "Cannot connect to vLLM")) for text in errors)
        assert len(os.listdir(out)) == summary["images_generated"]
        assert server.result("server_health")["status"] == "unreachable"
        with OmniServer("klein", port=omni.port):
            assert server.result("server_health")["status"] == "healthy"
            assert facts(server, "generate_image", {"prompt": "a", **SMALL})["status"] == "success"
