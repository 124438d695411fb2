"""Jobs as tasks of MCP: the real server, in front of a real vLLM-Omni on the CPU with a tiny random model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_images import FREED_S, LONG, SMALL, SOON_S, pixels, small_request_s
from tests.e2e.web_server import WebServer
from tests.web_client import WebClient, headers_of, modern, request

Json = dict[str, Any]
DECLARED: Json = {
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
}
ONE: Json = {"prompt": "a red circle", "seed": 5, **SMALL}
VOLATILE = ("generation_time_seconds", "job_id", "file_path")
TOKENS = {"VLLM_HTTP_TOKENS": "first-token-of-the-test,second-token-of-the-test"}


@pytest.fixture
def environment(omni_image_server: OmniServer, tmp_path: Path) -> dict[str, str]:
    return {"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(tmp_path / "out")}


@pytest.fixture
def studio(environment: dict[str, str]) -> Iterator[ServerProcess]:
    with ServerProcess(environment) as process:
        process.initialize()
        yield process


def begin(server: ServerProcess, tool: str, arguments: Json) -> Json:
    """Begins a task in the form of 2025-11-25."""
    answer = server.request("tools/call", {"name": tool, "arguments": arguments, "task": {"ttl": 60_000}})
    task: Json = answer["result"]["task"]
    assert task["status"] == "working", task
    return task


def told(result: Json) -> Json:
    """What a result says, without what differs from image to image."""
    facts = json.loads(result["content"][0]["text"])
    return {name: value for name, value in facts.items() if name not in VOLATILE}


def polled(ask: Callable[[], Json]) -> Json:
    """The task in the form of the extension, once it is over."""
    until_s = time.monotonic() + SOON_S
    while (task := ask())["status"] == "working":
        assert time.monotonic() < until_s, task
        time.sleep(0.05)
    return task


def running_jobs(server: ServerProcess) -> list[Json]:
    """The jobs, once one runs: a vLLM-Omni server that has not begun a job yet does not notice that it is cancelled."""
    until_s = time.monotonic() + SOON_S
    while True:
        jobs: list[Json] = server.result("list_jobs")["jobs"]
        if any(job["status"] == "running" for job in jobs):
            time.sleep(1)
            return jobs
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_result_of_a_task_is_that_of_the_call_that_waits(studio: ServerProcess) -> None:
    task = begin(studio, "generate_image", ONE)
    answer = studio.request("tasks/result", {"taskId": task["taskId"]}, timeout_s=SOON_S)
    result = answer["result"]
    assert result["_meta"] == {"io.modelcontextprotocol/related-task": {"taskId": task["taskId"]}}
    plain = studio.request("tools/call", {"name": "generate_image", "arguments": ONE}, timeout_s=SOON_S)["result"]
    assert told(result) == told(plain)
    assert [block["type"] for block in result["content"]] == [block["type"] for block in plain["content"]]
    paths = [json.loads(each["content"][0]["text"])["file_path"] for each in (result, plain)]
    assert pixels(paths[0]) == pixels(paths[1])
    state = studio.request("tasks/get", {"taskId": task["taskId"]})["result"]
    assert state["status"] == "completed"
    job_id = json.loads(result["content"][0]["text"])["job_id"]
    assert state["statusMessage"].startswith(job_id)
    assert job_id in [job["job_id"] for job in studio.result("list_jobs")["jobs"]]
    listed = studio.request("tasks/list")["result"]
    assert [each["taskId"] for each in listed["tasks"]] == [task["taskId"]]


def test_other_calls_are_served_while_a_result_is_waited_for(studio: ServerProcess) -> None:
    task = begin(studio, "batch_generate", {"prompts": [f"image {n}" for n in range(8)], **SMALL})
    waiting = studio.send_request("tasks/result", {"taskId": task["taskId"]})
    jobs = studio.result("list_jobs")["jobs"]
    assert jobs[0]["kind"] == "batch"
    assert studio.request("ping")["result"] == {}
    result = studio.read_answer(waiting, SOON_S)["result"]
    assert json.loads(result["content"][0]["text"])["images_generated"] == 8


def test_cancelled_task_frees_the_image_server(studio: ServerProcess, omni_image_server: OmniServer) -> None:
    usual_s = small_request_s(omni_image_server)
    task = begin(studio, "generate_image", {"prompt": "a", **LONG})
    waiting = studio.send_request("tasks/result", {"taskId": task["taskId"]})
    running_jobs(studio)
    cancelled = studio.request("tasks/cancel", {"taskId": task["taskId"]})
    assert cancelled["result"]["status"] == "cancelled"
    result = studio.read_answer(waiting, SOON_S)["result"]
    assert json.loads(result["content"][0]["text"])["status"] == "cancelled"
    assert small_request_s(omni_image_server) < usual_s + FREED_S
    (job,) = studio.result("list_jobs")["jobs"]
    assert job["status"] == "cancelled"


def test_job_cancelled_by_its_id_is_a_cancelled_task(studio: ServerProcess) -> None:
    task = begin(studio, "generate_image", {"prompt": "a", **LONG})
    jobs = running_jobs(studio)
    studio.result("cancel_batch", {"batch_id": jobs[0]["job_id"]})
    studio.request("tasks/result", {"taskId": task["taskId"]}, timeout_s=SOON_S)
    assert studio.request("tasks/get", {"taskId": task["taskId"]})["result"]["status"] == "cancelled"


def test_extension_over_pipes(studio: ServerProcess) -> None:
    call = modern("tools/call", {"name": "generate_image", "arguments": ONE}, **DECLARED)
    created = studio.request("tools/call", call["params"])["result"]
    assert (created["resultType"], created["status"]) == ("task", "working")

    def ask() -> Json:
        params = modern("tasks/get", {"taskId": created["taskId"]}, **DECLARED)["params"]
        answer: Json = studio.request("tasks/get", params)["result"]
        return answer

    task = polled(ask)
    assert task["status"] == "completed"
    assert json.loads(task["result"]["content"][0]["text"])["status"] == "success"
    without = studio.request("tools/call", modern("tools/call", {"name": "generate_image", "arguments": ONE})["params"])
    assert without["result"]["resultType"] == "complete"
    assert told(without["result"]) == told(task["result"])


def test_result_outlives_its_session_for_its_owner_alone(environment: dict[str, str]) -> None:
    with WebServer({**environment, **TOKENS}, transport="http") as server:
        first, second = ({"authorization": f"Bearer {token}"} for token in TOKENS["VLLM_HTTP_TOKENS"].split(","))
        session = server.client.initialize(**first)
        params = {"name": "generate_image", "arguments": ONE, "task": {}}
        task = server.client.answer(request("tools/call", params), session)["result"]["task"]
        assert server.client.http.delete("/mcp", headers=session).status_code == 204
        own, foreign = server.client.initialize(**first), server.client.initialize(**second)
        wanted = {"taskId": task["taskId"]}
        result = server.client.answer(request("tasks/result", wanted), own)["result"]
        assert json.loads(result["content"][0]["text"])["status"] == "success"
        assert server.client.answer(request("tasks/list"), foreign)["result"]["tasks"] == []
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            assert server.client.answer(request(method, wanted), foreign)["error"]["code"] == -32602
        assert _modern_get(server.client, wanted, first)["result"]["status"] == "completed"
        assert _modern_get(server.client, wanted, second)["error"]["code"] == -32602


def _modern_get(client: WebClient, wanted: Json, headers: dict[str, str]) -> Json:
    message = modern("tasks/get", wanted, **DECLARED)
    answer: Json = client.answer(message, {**headers_of(message), **headers})
    return answer
