"""Batches of images as jobs: waiting, progress, cancelling and listing."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omni.jobs.job import State
from tests.scripted_omni import ScriptedOmni, refuses
from tests.unit.handlers.image_calls import SMALL, WAIT_S, Json, measure
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client

pytestmark = pytest.mark.slow


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
def test_bad_batches_are_refused(omni_client: Client, omni: ScriptedOmni, arguments: Json, text: str) -> None:
    assert text in omni_client.error("batch_generate", arguments)
    assert omni.generations() == []


@pytest.mark.parametrize("n_prompts", [1, 20])
def test_batch_answers_in_order_with_one_sheet_and_all_links(omni_client: Client, n_prompts: int) -> None:
    prompts = [f"cat {number}" for number in range(n_prompts)]
    seeds = list(range(n_prompts))
    content = blocks(omni_client, "batch_generate", {"prompts": prompts, "seeds": seeds, **SMALL})
    assert [block["type"] for block in content] == ["text", "image", *["resource_link"] * n_prompts]
    told = json.loads(content[0]["text"])
    assert (told["status"], told["images_generated"], told["images_failed"]) == ("success", n_prompts, 0)
    assert [(entry["index"], entry["prompt"], entry["seed"]) for entry in told["results"]] == [
        (number, prompt, number) for number, prompt in enumerate(prompts)
    ]
    assert len({entry["file_path"] for entry in told["results"]}) == n_prompts


def test_batch_survives_a_bad_prompt(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(omni.honest, refuses(500, "boom"), omni.honest)
    told = facts(omni_client, "batch_generate", {"prompts": ["a", "b", "c"], **SMALL})
    assert (told["status"], told["images_generated"], told["images_failed"]) == ("success", 2, 1)
    assert told["results"][1]["error"] == "The vLLM server failed (HTTP 500): boom."


def test_batch_in_which_all_fail_is_an_error_with_every_reason(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(refuses(500, "CUDA out of memory"))
    told = json.loads(omni_client.error("batch_generate", {"prompts": ["a", "b"], **SMALL}))
    assert (told["status"], told["images_failed"]) == ("error", 2)
    assert told["results"][0]["error"] == (
        "Server returned out-of-memory error. Try reducing resolution or use `gpu_status` to check available memory."
    )


def test_failed_image_is_an_error(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(refuses(500, "boom"))
    assert omni_client.error("generate_image", {"prompt": "a", **SMALL}) == "The vLLM server failed (HTTP 500): boom."


def test_call_that_may_not_wait_answers_with_the_job(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.1
    begun = facts(omni_client, "generate_image", {"prompt": "a", "seed": 3, "wait_s": 0, **SMALL})
    assert (begun["status"], begun["completed"], begun["total"]) == ("running", 0, 1)
    done = facts(omni_client, "job_status", {"job_id": begun["job_id"], "wait_s": WAIT_S})
    assert (done["status"], done["parameters_used"]["seed"]) == ("success", 3)


def test_deadline_of_the_call_ends_the_waiting(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 30.0
    begun_s = time.monotonic()
    told = facts(omni_client, "batch_generate", {"prompts": ["a", "b"], **SMALL}, timeout_s=0.5)
    assert time.monotonic() - begun_s < 15
    assert told["status"] == "running"
    assert told["batch_id"].startswith("batch_")


def test_call_about_jobs_behind_it_ends_the_waiting(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 30.0
    call = omni_client.make_call("batch_generate", {"prompts": ["a", "b"], **SMALL})
    threading.Timer(0.1, lambda: setattr(call, "should_yield", lambda: True)).start()
    told = json.loads(omni_client.toolbox.run(call)["content"][0]["text"])
    assert told["status"] == "running"


def test_cancelled_call_cancels_its_job(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 1.0
    call = omni_client.make_call("batch_generate", {"prompts": ["a", "b"], **SMALL})

    def stop_when_it_runs() -> None:
        while not omni.generations():
            time.sleep(0.002)
        call.cancellation.set()

    threading.Thread(target=stop_when_it_runs).start()
    assert omni_client.toolbox.run(call)["isError"]
    (job,) = omni_client.services.jobs.list()
    assert job.wait(WAIT_S)
    assert job.state == "cancelled"


def test_progress_counts_images_and_begins_with_the_id(omni_client: Client) -> None:
    told = facts(omni_client, "batch_generate", {"prompts": ["a", "b"], **SMALL}, progress_token="p")
    sent = [message["params"] for message in omni_client.sent]
    assert sent[0]["message"] == f"{told['batch_id']}: 0 of 2 done"
    assert sent[-1] == {"progressToken": "p", "progress": 2, "total": 2, "message": f"{told['batch_id']}: 2 of 2 done"}
    assert [each["progress"] for each in sent] == sorted({each["progress"] for each in sent})


def test_progress_of_one_image_is_the_time(omni_client: Client, omni: ScriptedOmni) -> None:
    told = facts(omni_client, "generate_image", {"prompt": "a", **SMALL}, progress_token="p")
    assert omni_client.sent[0]["params"]["message"].startswith(f"{told['job_id']}: ")


def test_cancelling_before_during_and_after(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.3
    arguments = {"prompts": ["a", "b", "c", "d"], "max_concurrent": 1, "wait_s": 0, **SMALL}
    first = facts(omni_client, "batch_generate", arguments)["batch_id"]
    second = facts(omni_client, "batch_generate", arguments)["batch_id"]
    before = omni_client.result("cancel_batch", {"batch_id": second})
    assert (before.status, before.completed, before.cancelled, before.files_saved) == ("cancelled", 0, 4, [])
    job = omni_client.services.jobs.find(first)
    until_s = time.monotonic() + WAIT_S
    while job.count(State.SUCCEEDED) < 1 and time.monotonic() < until_s:
        time.sleep(0.005)
    during = omni_client.result("cancel_batch", {"batch_id": first})
    assert during.status == "cancelled"
    assert 1 <= during.completed == len(during.files_saved) < 4
    assert during.completed + during.cancelled == 4
    assert all(os.path.exists(path) for path in during.files_saved)
    after = omni_client.result("cancel_batch", {"batch_id": first})
    assert after.status == "cancelled"
    assert "nothing to cancel" in after.message
    assert after.files_saved == during.files_saved
    assert facts(omni_client, "job_status", {"job_id": first})["status"] == "cancelled"


def test_cancelling_a_finished_batch_changes_nothing(omni_client: Client) -> None:
    batch_id = facts(omni_client, "batch_generate", {"prompts": ["a"], **SMALL})["batch_id"]
    answer = omni_client.result("cancel_batch", {"batch_id": batch_id})
    assert (answer.status, answer.completed, answer.cancelled) == ("succeeded", 1, 0)


@pytest.mark.parametrize("tool", ["cancel_batch", "job_status"])
def test_unknown_jobs_are_refused(omni_client: Client, tool: str) -> None:
    argument = "batch_id" if tool == "cancel_batch" else "job_id"
    for job_id in ("batch_none", "../x", "x" * 200):
        assert "There is no job" in omni_client.error(tool, {argument: job_id})
    assert f"arguments.{argument}" in omni_client.error(tool, {argument: "x" * 201})


def test_jobs_are_listed_newest_first(omni_client: Client, omni: ScriptedOmni) -> None:
    first = facts(omni_client, "generate_image", {"prompt": "a" * 300, **SMALL})["job_id"]
    omni.script(refuses(500, "boom"))
    omni_client.error("batch_generate", {"prompts": ["b", "c"], **SMALL})
    listed = omni_client.result("list_jobs")
    assert [(job.kind, job.status, job.completed, job.failed, job.total) for job in listed.jobs] == [
        ("batch", "failed", 0, 2, 2),
        ("image", "succeeded", 1, 0, 1),
    ]
    assert listed.jobs[1].job_id == first
    assert len(listed.jobs[1].about) == 100
    assert [job.job_id for job in omni_client.result("list_jobs", {"status": "succeeded"}).jobs] == [first]
    assert omni_client.result("list_jobs", {"limit": 1}).total_count == 2


def test_batch_that_waits_for_another_shares_its_limit(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.05
    arguments = {"prompts": ["a"] * 4, "max_concurrent": 2, **SMALL}
    first = facts(omni_client, "batch_generate", {**arguments, "wait_s": 0})["batch_id"]
    facts(omni_client, "batch_generate", arguments)
    assert facts(omni_client, "job_status", {"job_id": first, "wait_s": WAIT_S})["images_generated"] == 4
    assert omni.max_running == 2


@pytest.mark.parametrize(("free_gb", "at_once"), [(19.0, 4), (5.0, 2), (0.5, 1), (None, 1)])
def test_batch_takes_as_many_at_once_as_the_gpu_allows(
    omni_client: Client, omni: ScriptedOmni, monkeypatch: pytest.MonkeyPatch, free_gb: float | None, at_once: int
) -> None:
    measure(omni_client, monkeypatch, free_gb)
    omni.delay_s = 0.05
    facts(omni_client, "batch_generate", {"prompts": ["a"] * 8, "preview": "none", **SMALL})
    assert omni.max_running == at_once


def test_setting_says_how_many_at_once(make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path) -> None:
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path), OMNI_MAX_CONCURRENT="3")
    omni.delay_s = 0.05
    facts(client, "batch_generate", {"prompts": ["a"] * 8, "preview": "none", **SMALL})
    assert omni.max_running == 3
