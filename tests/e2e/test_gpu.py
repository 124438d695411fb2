"""Memory and the model's life, through the real server: measured, given back, and flat over many lives."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.hardware import gpu
from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import text_of

GB = 1 << 30
CYCLES = 10
MAX_GROWTH_BYTES = 50 << 20
ON_GPU = bool(gpu.devices([]))
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="the driver (pynvml) finds no NVIDIA GPU on this machine")
needs_cpu_backend = pytest.mark.skipif(ON_GPU, reason="this machine has an NVIDIA GPU, so vLLM does not run on its CPU")


def hello(**arguments: object) -> Json:
    return {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0, **arguments}


def long_batch(timeout_s: float) -> Json:
    """More than the engine can answer in this time."""
    conversation = [{"role": "user", "content": "Tell me more."}]
    return {"conversations": [conversation] * 256, "max_tokens": 900, "ignore_eos": True, "timeout_s": timeout_s}


def state(server: ServerProcess) -> str:
    return str(server.result("get_gpu_status")["state"])


def wait_for_state(server: ServerProcess, *expected: str, timeout_s: float = 60.0) -> float:
    """Waits until the model is there; returns the moment (`time.monotonic()`)."""
    until_s = time.monotonic() + timeout_s
    while (now := state(server)) not in expected:
        assert time.monotonic() < until_s, now
        time.sleep(0.05)
    return time.monotonic()


@pytest.fixture(scope="module")
def gpu_server(model: dict[str, str]) -> Iterator[ServerProcess]:
    """One server for this module; each test loads or releases the model itself. Nothing goes by itself at first."""
    with ServerProcess({**model, "GPU_IDLE_TIMEOUT": "0"}) as process:
        process.initialize()
        yield process


# What is told


def test_status_tells_where_the_model_is_and_loads_nothing(gpu_server: ServerProcess) -> None:
    gpu_server.result("release_gpu")
    before = gpu_server.result("get_gpu_status")
    assert (before["state"], before["model_location"], before["idle_time"]) == ("unloaded", None, None)
    gpu_server.result("chat_completion", hello())
    loaded = gpu_server.result("get_gpu_status")
    assert loaded["state"] == "ready"
    assert loaded["model_location"] == ("GPU" if ON_GPU else "CPU")
    assert 0 <= loaded["idle_time"] < 30
    assert loaded["idle_timeout"] == 0
    assert loaded["gpu_available"] is ON_GPU
    assert loaded["error"] is None


@needs_cpu_backend
def test_on_a_cpu_the_memory_is_the_processes_own_and_gpu_figures_are_null(gpu_server: ServerProcess) -> None:
    gpu_server.result("chat_completion", hello())
    status = gpu_server.result("get_gpu_status")
    assert status["process_memory_gb"] * GB == pytest.approx(gpu_server.resident_bytes(), rel=0.02)
    assert (status["backend"], status["offload_supported"], status["gpus"]) == ("cpu", False, [])
    figures = ("gpu_name", "gpu_memory_allocated_gb", "gpu_memory_reserved_gb")
    assert [status[figure] for figure in figures] == [None, None, None]


def test_status_behind_a_load_answers_in_its_turn_or_at_its_deadline(model: dict[str, str]) -> None:
    with ServerProcess({**model, "VLLM_CALL_TIMEOUT": "1.5"}) as server:
        server.initialize()
        server.send_call("chat_completion", hello(), request_id="chat")
        server.send_call("get_gpu_status", request_id="status")
        assert [server.read_message()["id"] for _ in range(2)] == ["chat", "status"]
        until_s = time.monotonic() + LOAD_S
        while (answer := server.call("get_gpu_status"))["result"]["isError"]:
            assert "is still" in text_of(answer)
            assert time.monotonic() < until_s
        assert answer["result"]["structuredContent"]["state"] == "ready"


def test_models_on_this_machine_are_listed_with_their_measured_size(tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--org--model"
    (repo / "blobs").mkdir(parents=True)
    (repo / "snapshots" / "abc").mkdir(parents=True)
    for blob, name, size in (("1", "config.json", 100), ("2", "model.safetensors", 5 << 20)):
        (repo / "blobs" / blob).write_bytes(b"\0" * size)
        (repo / "snapshots" / "abc" / name).symlink_to(f"../../blobs/{blob}")
    with ServerProcess({"HF_HOME": str(tmp_path)}) as server:
        listed = server.result("list_available_models")
        (cached,) = listed["models"]["cached"]
        assert (cached["name"], cached["loaded"]) == ("org/model", False)
        assert cached["size_on_disk_gb"] == round((100 + (5 << 20)) / GB, 3)
        assert [entry["name"] for entry in listed["models"]["configured"]] == ["demo-vlm"]
        assert listed["status"] == "success"
        named = [entry for group in listed["models"].values() for entry in group if entry["name"] is not None]
        assert listed["total_count"] == len(named)


# Giving memory back


def test_release_measures_what_it_gives_back_and_the_next_call_answers_as_before(gpu_server: ServerProcess) -> None:
    gpu_server.result("chat_completion", hello(session_id="kept"))
    answer = gpu_server.result("chat_completion", hello())["text"]
    loaded_bytes = gpu_server.resident_bytes()
    released = gpu_server.result("release_gpu")
    assert released["status"] == "released"
    assert released["freed_gb"] > 0.1
    if not ON_GPU:
        assert released["before"]["process_memory_gb"] * GB == pytest.approx(loaded_bytes, rel=0.02)
        assert released["after"]["process_memory_gb"] * GB == pytest.approx(gpu_server.resident_bytes(), rel=0.02)
    assert state(gpu_server) == "unloaded"
    assert gpu_server.result("chat_completion", hello())["text"] == answer
    again = gpu_server.result("chat_completion", hello(session_id="kept"))
    assert again["session_messages"] == 4


@pytest.mark.parametrize("tool", ["release_gpu", pytest.param("offload_gpu", marks=needs_gpu)])
def test_giving_memory_back_waits_for_the_generation_that_runs(gpu_server: ServerProcess, tool: str) -> None:
    gpu_server.result("chat_completion", hello())
    gpu_server.send_call("chat_completion_batch", long_batch(timeout_s=1.5), request_id="batch")
    gpu_server.send_call(tool, request_id="memory")
    batch, memory = (gpu_server.read_message(LOAD_S) for _ in range(2))
    assert (batch["id"], memory["id"]) == ("batch", "memory")
    assert {item["error"] for item in batch["result"]["structuredContent"]["results"]} == {None}
    assert batch["result"]["structuredContent"]["usage"]["completion_tokens"] > 0
    assert memory["result"]["structuredContent"]["status"] in ("released", "offloaded")
    assert gpu_server.result("chat_completion", hello())["text"]


def test_releasing_twice_says_that_nothing_was_loaded(gpu_server: ServerProcess) -> None:
    gpu_server.result("chat_completion", hello())
    gpu_server.result("release_gpu")
    again = gpu_server.result("release_gpu")
    assert (again["status"], again["freed_gb"]) == ("released", 0)
    assert again["message"].startswith("No model was loaded")


@needs_cpu_backend
@pytest.mark.parametrize("loaded", [True, False])
def test_offload_on_a_cpu_fails_and_points_to_release(gpu_server: ServerProcess, loaded: bool) -> None:
    gpu_server.result("chat_completion" if loaded else "release_gpu", hello() if loaded else None)
    answer = gpu_server.call("offload_gpu")
    assert answer["result"]["isError"]
    assert "not supported on this" in text_of(answer)
    assert "release_gpu" in text_of(answer)
    assert state(gpu_server) == ("ready" if loaded else "unloaded")


def test_memory_stays_flat_over_many_lives_of_the_model(model: dict[str, str]) -> None:
    released_bytes = []
    with ServerProcess({**model, "GPU_IDLE_TIMEOUT": "0"}) as server:
        server.initialize()
        answers = set()
        for _ in range(CYCLES):
            answers.add(server.result("chat_completion", hello())["text"])
            server.result("release_gpu")
            released_bytes.append(server.resident_bytes())
        assert server.result("chat_completion", hello())["text"] in answers
    assert len(answers) == 1
    growth = [n_bytes - released_bytes[1] for n_bytes in released_bytes[2:]]
    assert max(growth) < MAX_GROWTH_BYTES, [n_bytes >> 20 for n_bytes in released_bytes]


# The idle timeout


def test_idle_model_goes_by_itself_and_the_next_call_brings_it_back(gpu_server: ServerProcess) -> None:
    answer = gpu_server.result("chat_completion", hello())["text"]
    assert gpu_server.result("update_gpu_timeout", {"timeout_seconds": 2})["status"] == "updated"
    gpu_server.result("chat_completion", hello())
    used_s = time.monotonic()
    gone_s = wait_for_state(gpu_server, "unloaded", "offloaded")  # asking is no use of the model
    assert gone_s - used_s >= 1.9
    assert gpu_server.result("chat_completion", hello())["text"] == answer
    assert gpu_server.result("update_gpu_timeout", {"timeout_seconds": 0})["timeout"] == 0


def test_idle_timeout_never_ends_a_call_and_counts_from_its_end(gpu_server: ServerProcess) -> None:
    gpu_server.result("chat_completion", hello())
    gpu_server.result("update_gpu_timeout", {"timeout_seconds": 1})
    begin_s = time.monotonic()
    batch = gpu_server.result("chat_completion_batch", long_batch(timeout_s=4))
    assert time.monotonic() - begin_s > 3
    assert {item["error"] for item in batch["results"]} == {None}
    assert state(gpu_server) == "ready"
    wait_for_state(gpu_server, "unloaded", "offloaded")
    gpu_server.result("update_gpu_timeout", {"timeout_seconds": 0})


def test_shorter_timeout_holds_at_once(gpu_server: ServerProcess) -> None:
    gpu_server.result("update_gpu_timeout", {"timeout_seconds": 3600})
    gpu_server.result("chat_completion", hello())
    time.sleep(1.1)  # the model must have been idle for longer than the new timeout
    gpu_server.result("update_gpu_timeout", {"timeout_seconds": 1})
    assert wait_for_state(gpu_server, "unloaded", "offloaded")
    gpu_server.result("update_gpu_timeout", {"timeout_seconds": 0})


def test_call_that_arrives_just_when_the_model_goes_is_answered(gpu_server: ServerProcess) -> None:
    gpu_server.result("update_gpu_timeout", {"timeout_seconds": 1})
    answers = set()
    for early_s in (0.02, 0.005, 0.0, -0.005, -0.02):
        answers.add(gpu_server.result("chat_completion", hello())["text"])
        time.sleep(1 - early_s)  # around the moment itself
    answers.add(gpu_server.result("chat_completion", hello())["text"])
    assert len(answers) == 1
    gpu_server.result("update_gpu_timeout", {"timeout_seconds": 0})


@pytest.mark.parametrize("timeout", [-1, 30 * 24 * 3600 + 1, 1e300, 2.5, "an hour", True, None])
def test_timeout_that_means_nothing_is_refused_and_changes_nothing(gpu_server: ServerProcess, timeout: object) -> None:
    before = gpu_server.result("get_gpu_status")["idle_timeout"]
    answer = gpu_server.call("update_gpu_timeout", {"timeout_seconds": timeout})
    assert answer["result"]["isError"]
    assert "arguments.timeout_seconds: " in text_of(answer)
    assert gpu_server.result("get_gpu_status")["idle_timeout"] == before


# Recovery


def test_killed_engine_process_fails_that_call_and_the_next_one_loads_again(model: dict[str, str]) -> None:
    with ServerProcess({**model, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}) as server:
        server.initialize()
        answer = server.result("chat_completion", hello())["text"]
        with_core = server.result("get_gpu_status")["process_memory_gb"]
        assert with_core * GB > server.resident_bytes() + (100 << 20)
        cores = [process for process in server.descendants() if "EngineCore" in process.command()]
        assert cores
        for core in cores:
            os.kill(core.pid, signal.SIGKILL)
        failed = server.call("chat_completion", hello())
        assert failed["result"]["isError"]
        assert "the next call loads it again" in text_of(failed)
        status = server.result("get_gpu_status")
        assert (status["state"], status["model_location"], status["error"]) == ("failed", None, text_of(failed))
        assert server.result("chat_completion", hello())["text"] == answer
        server.result("release_gpu")
        assert not any(core.alive() for core in cores)
        assert [process for process in server.descendants() if "EngineCore" in process.command()] == []


# With a GPU


@needs_gpu
def test_offloaded_model_leaves_the_gpu_and_comes_back(gpu_server: ServerProcess) -> None:
    answer = gpu_server.result("chat_completion", hello())["text"]
    offloaded = gpu_server.result("offload_gpu")
    assert offloaded["status"] == "offloaded"
    assert offloaded["freed_gb"] > 0
    status = gpu_server.result("get_gpu_status")
    assert (status["state"], status["model_location"]) == ("offloaded", "CPU")
    assert gpu_server.result("offload_gpu")["message"] == "The model was already offloaded."
    assert gpu_server.result("chat_completion", hello())["text"] == answer
    assert state(gpu_server) == "ready"


@needs_gpu
def test_offloaded_model_can_be_released(gpu_server: ServerProcess) -> None:
    gpu_server.result("chat_completion", hello())
    gpu_server.result("offload_gpu")
    assert gpu_server.result("release_gpu")["status"] == "released"
    assert state(gpu_server) == "unloaded"


@needs_gpu
def test_gpu_figures_agree_with_the_driver(gpu_server: ServerProcess) -> None:
    gpu_server.result("chat_completion", hello())
    status = gpu_server.result("get_gpu_status")
    for shown, measured in zip(status["gpus"], gpu.devices([]), strict=True):
        assert shown["name"] == measured.name
        assert shown["total_gb"] * GB == pytest.approx(measured.total_bytes, rel=0.01)
        assert shown["used_gb"] * GB == pytest.approx(measured.used_bytes, rel=0.05)
