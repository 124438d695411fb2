"""The engine breaks in its work, or the system gives no more: the call that met it is told, the next one is served."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.images import asked, drawn, image_part
from tests.e2e.injections import MIB, BreakableStep, limited, short_of_memory
from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import text_of

HELLO: Json = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
ENDLESS: Json = {**HELLO, "max_tokens": 1500, "min_tokens": 1500, "ignore_eos": True}


@pytest.fixture
def breakable(tmp_path: Path) -> BreakableStep:
    return BreakableStep(tmp_path)


@pytest.fixture
def server(model: dict[str, str], breakable: BreakableStep) -> Iterator[ServerProcess]:
    """A server with a small cache, whose engine can be broken."""
    with ServerProcess({**model, "VLLM_CPU_KVCACHE_SPACE": "0.25", **breakable.environment}) as process:
        process.initialize()
        yield process


def wait_for(server: ServerProcess, phase: str) -> None:
    """Reads progress until a phase of a load, or until text comes ("generating")."""
    while True:
        message = server.read_message(LOAD_S)
        assert "method" in message, message
        params = message["params"]
        if params.get("message") == phase or (phase == "generating" and params["progress"] >= 1):
            return


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("RuntimeError", "The engine stopped working"),
        ("MemoryError", "out of memory. Try: "),
        ("SystemExit", "The engine stopped working"),
        ("GeneratorExit", "The engine stopped working"),
    ],
)
def test_broken_step_fails_the_call_that_met_it_and_no_other(
    server: ServerProcess, breakable: BreakableStep, kind: str, told: str
) -> None:
    said = server.result("chat_completion", {**HELLO, "session_id": "s"})
    server.send_call("chat_completion", {**ENDLESS, "session_id": "s"}, request_id="broken", meta={"progressToken": 1})
    server.send_call("chat_completion", HELLO, request_id="next")
    wait_for(server, "generating")
    breakable.arm(kind)
    broken = server.read_answer("broken")
    assert broken["result"]["isError"]
    assert told in text_of(broken)
    assert "0x" not in text_of(broken)
    answer = server.read_answer("next", LOAD_S)
    assert answer["result"]["structuredContent"]["text"] == said["text"]
    assert server.result("get_session", {"session_id": "s"})["total_messages"] == 2
    assert server.result("get_gpu_status")["state"] == "ready"


def test_step_that_breaks_under_a_batch_fails_the_whole_batch(server: ServerProcess, breakable: BreakableStep) -> None:
    batch = {"conversations": [asked(f"Hello {number}") for number in range(8)], "max_tokens": 8}
    server.result("chat_completion_batch", batch)
    breakable.arm()
    answer = server.call("chat_completion_batch", batch)
    assert answer["result"]["isError"]
    assert "The engine stopped working" in text_of(answer)
    assert not breakable.armed
    assert {item["error"] for item in server.result("chat_completion_batch", batch)["results"]} == {None}


def test_engine_process_killed_under_an_answer_fails_that_call_and_the_next_one_loads_again(
    model: dict[str, str],
) -> None:
    settings = {**model, "VLLM_CPU_KVCACHE_SPACE": "0.25", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with ServerProcess(settings) as server:
        server.initialize()
        server.send_call("chat_completion", ENDLESS, request_id="broken", meta={"progressToken": 1})
        wait_for(server, "generating")
        cores = [process for process in server.descendants() if "EngineCore" in process.command()]
        assert cores
        for core in cores:
            os.kill(core.pid, signal.SIGKILL)
        broken = server.read_answer("broken")
        assert broken["result"]["isError"]
        assert "the next call loads it again" in text_of(broken)
        assert server.result("chat_completion", HELLO)["text"]


@pytest.mark.parametrize(
    ("spare_bytes", "told"),
    [(16 * MIB, "no more memory"), (1500 * MIB, "out of memory. Try: ")],
    ids=["for vLLM's compiled part", "for the cache"],
)
def test_memory_that_runs_out_in_a_load_is_told_and_the_next_call_loads(
    model: dict[str, str], spare_bytes: int, told: str
) -> None:
    with ServerProcess({**model, "VLLM_CPU_KVCACHE_SPACE": "2"}) as server:
        server.initialize()
        server.send_call("chat_completion", HELLO, request_id="short", meta={"progressToken": 1})
        wait_for(server, "loading weights")
        with short_of_memory(server, spare_bytes):
            short = server.read_answer("short", LOAD_S)
        assert short["result"]["isError"]
        assert told in text_of(short), text_of(short)
        server.assert_serves()
        assert server.result("chat_completion", HELLO)["text"]


def test_too_little_memory_for_vllm_itself_is_told_and_everything_else_is_served(model: dict[str, str]) -> None:
    with ServerProcess(model) as server:
        server.initialize()
        with limited(server, resource.RLIMIT_AS, 600 * MIB):
            for _ in range(2):
                answer = server.call("chat_completion", HELLO)
                assert answer["result"]["isError"]
                assert "memory" in text_of(answer), text_of(answer)
                assert not server.call("model_info")["result"]["isError"]


def test_memory_that_runs_out_in_an_answer_costs_that_answer_at_most(server: ServerProcess) -> None:
    said = server.result("chat_completion", HELLO)["text"]
    images = [asked("What is this?", image_part(drawn("green", size=900 + number))) for number in range(24)]
    with short_of_memory(server, 4 * MIB):
        for _ in range(2):
            answer = server.call("chat_completion_batch", {"conversations": images, "max_tokens": 64})
            assert "memory" in text_of(answer) or not answer["result"]["isError"], text_of(answer)
            server.assert_serves()
    assert server.result("chat_completion", HELLO)["text"] == said


def test_message_that_is_too_large_for_the_memory_is_refused_and_the_next_is_served() -> None:
    with ServerProcess() as server:
        server.assert_serves()
        with short_of_memory(server, 12 * MIB):
            for n_bytes in (8 * MIB, 30 * MIB):
                server.send({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y" * n_bytes}})
                assert "memory" in server.read_message()["error"]["message"]
                server.assert_serves()
        server.assert_serves()


def test_first_call_without_a_thread_to_run_it_is_told_and_the_next_is_served() -> None:
    with ServerProcess() as server:
        server.request("tools/list")
        with short_of_memory(server, 2 * MIB):  # less than a thread's stack
            assert server.call("model_info")["error"]["message"] == "Internal error"
            server.assert_serves()
        assert not server.call("model_info")["result"]["isError"]


def first_free(server: ServerProcess) -> int:
    """The descriptor that the next file would get: with this as the limit, none gets any."""
    taken: set[int] = set()
    while (found := {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}) != taken:
        taken = found
        time.sleep(0.5)  # those of the last call may be closing
    return next(number for number in range(len(taken) + 1) if number not in taken)


def test_too_many_open_files_end_no_thread_of_the_server(tmp_path: Path) -> None:
    look = {"image_path": str(tmp_path / "none.png"), "query": "What?"}
    with ServerProcess({"VLLM_MODEL_NAME": str(tmp_path)}) as server:
        server.call("list_sessions")
        with limited(server, resource.RLIMIT_NOFILE, first_free(server)):
            for _ in range(3):
                assert server.call("analyze_single_image", look)["result"]["isError"]
                assert not server.call("list_sessions")["result"]["isError"]
        assert "There is no file" in text_of(server.call("analyze_single_image", look))


def test_too_many_open_files_fail_a_call_that_needs_one(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    drawn().save(path)
    look = {"image_path": str(path), "query": "What is in this image?", "temperature": 0}
    said = server.result("analyze_single_image", look)["text"]
    with limited(server, resource.RLIMIT_NOFILE, first_free(server)):
        answer = server.call("analyze_single_image", look)
        assert answer["result"]["isError"]
        assert "cannot be read" in text_of(answer)
        assert server.result("chat_completion", HELLO)["text"]
    assert server.result("analyze_single_image", look)["text"] == said
