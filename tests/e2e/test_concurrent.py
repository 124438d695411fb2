"""Several calls at a time: with one worker in order, with eight in one batch of the engine, each answered once."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from engine.local import reaper
from tests.e2e.images import as_data_url, drawn
from tests.e2e.model_server import ModelServer
from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import check_result, text_of

LONG = 900


def chat(text: str = "Hello", max_tokens: int = 24, **arguments: Any) -> Json:
    """Arguments of a greedy chat of so many tokens."""
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, **arguments}


def image_chat(number: int) -> Json:
    """A chat about an image of its own."""
    colours = ("red", "green", "blue", "yellow")
    url = as_data_url(drawn(colours[number % 4], ("circle", "square")[number % 2], "white"))
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Describe this image."}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 24, "temperature": 0}


def answers(server: ServerProcess, n_answers: int) -> dict[Any, Json]:
    """The next so many answers by their ids, in the order in which they came; notifications are passed over."""
    found: dict[Any, Json] = {}
    while len(found) < n_answers:
        message = server.read_message(LOAD_S)
        if "method" not in message:
            assert message["id"] not in found, message
            found[message["id"]] = check_result("tools/call", "2025-11-25", message)
    return found


def begin(server: ServerProcess, request_ids: Iterable[Any], **arguments: Any) -> None:
    """Sends chats of `LONG` tokens and waits until each has said something."""
    begun = list(request_ids)
    for request_id in begun:
        server.send_call(
            "chat_completion", chat(max_tokens=LONG, **arguments), request_id=request_id, meta=token(request_id)
        )
    wait_for_text(server, begun)


def wait_for_text(server: ServerProcess, request_ids: Iterable[Any]) -> dict[Any, list[str]]:
    """Waits until each of these calls has said something; returns the phases of loading that each was told of."""
    waiting = set(request_ids)
    phases: dict[Any, list[str]] = {request_id: [] for request_id in waiting}
    while waiting:
        message = server.read_message(LOAD_S)
        assert "method" in message, message
        params = message["params"]
        if params["progress"] >= 1:
            waiting.discard(params["progressToken"])
        else:
            phases[params["progressToken"]].append(params["message"])
    return phases


def token(request_id: Any) -> Json:
    """Asks for progress under the call's own id."""
    return {"progressToken": request_id}


def cancel(server: ServerProcess, *request_ids: Any) -> None:
    for request_id in request_ids:
        server.notify("notifications/cancelled", {"requestId": request_id})


def texts(found: dict[Any, Json]) -> dict[Any, str]:
    assert not any(result["isError"] for result in found.values()), found
    return {request_id: result["structuredContent"]["text"] for request_id, result in found.items()}


@pytest.fixture(scope="module")
def wide(model: dict[str, str]) -> Iterator[ServerProcess]:
    """A server with eight workers and the model loaded; tests must leave it as they found it.

    In float32, so that an answer does not depend on what else is in the batch.
    """
    environment = {**model, "VLLM_MAX_CONCURRENT": "8", "VLLM_DTYPE": "float32", "GPU_IDLE_TIMEOUT": "0"}
    with ServerProcess(environment) as process:
        process.initialize()
        process.result("chat_completion", chat(max_tokens=1))
        yield process


def test_with_one_worker_replies_come_in_order(demo_server: ServerProcess) -> None:
    for number in range(40):
        if number % 4 == 3:
            demo_server.send_call("model_info", request_id=number)
        else:
            demo_server.send_call("chat_completion", chat(max_tokens=1 + number % 5), request_id=number)
    assert list(answers(demo_server, 40)) == list(range(40))


def test_each_call_is_answered_once_and_as_if_it_were_alone(wide: ServerProcess) -> None:
    calls = {n: image_chat(n) if n % 3 == 0 else chat(f"{n}: my name is Ada. What is my name?") for n in range(24)}
    for number, arguments in calls.items():
        wide.send_call("chat_completion", arguments, request_id=number)
    together = answers(wide, len(calls))
    wide.assert_serves()
    alone = {number: wide.result("chat_completion", arguments)["text"] for number, arguments in calls.items()}
    assert texts(together) == alone


def test_short_call_overtakes_a_long_one(wide: ServerProcess) -> None:
    begin(wide, ["long"])
    wide.send_call("chat_completion", chat(max_tokens=4), request_id="short")
    assert list(answers(wide, 2)) == ["short", "long"]


def test_turns_of_a_session_come_in_order_and_others_overtake(wide: ServerProcess) -> None:
    wide.send_call("chat_completion", chat(max_tokens=600, session_id="serial"), request_id=0)
    for number in range(1, 5):
        wide.send_call("chat_completion", chat(f"{number}", 3, session_id="serial"), request_id=number)
    wide.send_call("get_session", {"session_id": "serial"}, request_id="seen")
    wide.send_call("delete_session", {"session_id": "serial"}, request_id="deleted")
    wide.send_call("chat_completion", chat(max_tokens=3), request_id="other")
    found = answers(wide, 8)
    assert list(found) == ["other", 0, 1, 2, 3, 4, "seen", "deleted"]
    counted = [found[number]["structuredContent"]["session_messages"] for number in range(5)]
    assert counted == [2, 4, 6, 8, 10]
    assert found["seen"]["structuredContent"]["total_messages"] == 10


def test_copy_of_a_session_waits_for_its_source_and_is_waited_for(wide: ServerProcess) -> None:
    wide.send_call("chat_completion", chat(max_tokens=300, session_id="source"), request_id=0)
    fork = {"session_id": "source", "fork_session": True, "fork_session_id": "copy"}
    wide.send_call("chat_completion", chat("Go on.", 100, **fork), request_id=1)
    wide.send_call("chat_completion", chat("And on.", 3, session_id="copy"), request_id=2)
    found = answers(wide, 3)
    assert [found[number]["structuredContent"]["session_messages"] for number in range(3)] == [2, 4, 6]
    for session_id in ("source", "copy"):
        wide.result("delete_session", {"session_id": session_id})


def test_cancelling_one_of_several_concerns_no_other(wide: ServerProcess) -> None:
    begin(wide, ["a", "b", "c"])
    wide.send_call("chat_completion", chat(max_tokens=LONG, session_id="cancelled"), request_id="d", meta=token("d"))
    cancel(wide, "b", "d")
    found = answers(wide, 2)
    assert sorted(found) == ["a", "c"]
    for result in found.values():
        assert result["structuredContent"]["usage"]["completion_tokens"] == LONG
    wide.assert_serves()
    assert wide.result("list_sessions")["sessions"] == []


def test_what_only_tells_something_answers_while_all_workers_are_busy(wide: ServerProcess) -> None:
    running = [f"running {number}" for number in range(8)]
    begin(wide, running)
    wide.send_call("chat_completion", chat(max_tokens=2), request_id="waiting")
    told = ("model_info", "get_model_status", "get_gpu_status", "list_jobs", "list_sessions")
    for tool in told:
        wide.send_call(tool, request_id=tool)
    found = answers(wide, len(told))
    assert sorted(found) == sorted(told)
    assert found["model_info"]["structuredContent"]["server_state"] == "ready"
    cancel(wide, *running)
    assert list(answers(wide, 1)) == ["waiting"]


def test_progress_goes_to_the_right_call(wide: ServerProcess) -> None:
    for number in range(8):
        wide.send_call("chat_completion", chat(f"{number}: hello", 40 + number), request_id=number, meta=token(number))
    said: dict[int, str] = dict.fromkeys(range(8), "")
    found: dict[int, Json] = {}
    while len(found) < 8:
        message = wide.read_message(LOAD_S)
        if "method" in message:
            said[message["params"]["progressToken"]] += message["params"]["message"]
        else:
            assert message["id"] not in found
            found[message["id"]] = message["result"]
    assert said == texts(found)


def test_deadline_ends_its_own_call_alone(wide: ServerProcess) -> None:
    begin(wide, ["long"])
    wide.send_call("chat_completion", chat(max_tokens=LONG, timeout_s=0.2), request_id="late")
    found = answers(wide, 2)
    assert list(found) == ["late", "long"]
    assert found["late"]["structuredContent"]["finish_reason"] == "timeout"
    assert found["long"]["structuredContent"]["finish_reason"] == "length"


def test_batches_images_and_forms_run_side_by_side(wide: ServerProcess) -> None:
    greedy: Json = {"max_tokens": 16, "temperature": 0}
    conversations = [[{"role": "user", "content": text}] for text in ("one", "two", "x" * 9000, "three")]
    urls = [as_data_url(drawn(colour, "circle", "white")) for colour in ("red", "green", "blue")]
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    schema = {"type": "object", "properties": {"digit": digit}, "required": ["digit"]}
    form = {"type": "json_schema", "json_schema": {"name": "digit", "schema": schema}}
    calls: list[tuple[str, Json]] = [
        ("chat_completion_batch", {"conversations": conversations, **greedy}),
        ("analyze_images_with_query", {"image_paths": urls, "query": "red circle", **greedy}),
        ("check_image_relevance", {"image_path": urls[0], "query": "red circle"}),
        ("chat_completion", {**chat(max_tokens=60, response_format=form), "ignore_eos": False}),
        ("chat_completion_batch", {"conversations": conversations[:2] * 10, **greedy}),
    ]
    for number, (tool, arguments) in enumerate(calls):
        wide.send_call(tool, arguments, request_id=number)
    together = answers(wide, len(calls))
    for number, (tool, arguments) in enumerate(calls):
        assert without_costs(together[number]["structuredContent"]) == without_costs(wide.result(tool, arguments))


def without_costs(result: Any) -> Any:
    """A result without what differs from one time to the next."""
    if isinstance(result, dict):
        return {key: without_costs(value) for key, value in result.items() if key not in ("timings", "usage")}
    if isinstance(result, list):
        return [without_costs(item) for item in result]
    return round(result, 3) if isinstance(result, float) else result


def test_release_waits_for_those_before_it_and_those_behind_it_load_again(wide: ServerProcess) -> None:
    begin(wide, ["a", "b"])
    wide.send_call("release_gpu", request_id="release")
    for number in range(3):
        wide.send_call("chat_completion", chat(max_tokens=3), request_id=number)
    wide.send_call("model_info", request_id="told")
    found = answers(wide, 7)
    order = list(found)
    assert order[0] == "told"
    assert sorted(order[1:3]) == ["a", "b"]
    assert order[3] == "release"
    assert found["a"]["structuredContent"]["finish_reason"] == "length"
    assert found["release"]["structuredContent"]["status"] == "released"
    assert all(found[number]["structuredContent"]["timings"]["load_ms"] > 0 for number in range(3))


def test_signal_in_the_middle_answers_all_and_leaves_nothing_behind(model: dict[str, str]) -> None:
    with ServerProcess({**model, "VLLM_MAX_CONCURRENT": "4"}) as server:
        server.initialize()
        for number in range(6):
            arguments = chat(max_tokens=LONG)
            server.send_call("chat_completion", arguments, request_id=number, meta=token(number))
        phases = wait_for_text(server, range(4))
        assert all(said[-1] == "loading weights" for said in phases.values())  # of one load, which all waited for
        children = server.descendants()
        begin_s = time.monotonic()
        server.signal()
        server.assert_ends_promptly(begin_s)
        left = {message["id"]: message for message in server.remaining() if "id" in message}
        assert sorted(left) == list(range(6))
        assert all("shutting down" in text_of(answer) for answer in left.values())
        assert not any(child.alive() for child in children)


def test_calls_that_wait_for_a_load_are_answered_at_their_deadline(model: dict[str, str]) -> None:
    with ServerProcess({**model, "VLLM_MAX_CONCURRENT": "4", "VLLM_CALL_TIMEOUT": "1"}) as server:
        server.initialize()
        for number in range(6):
            server.send_call("chat_completion", chat(), request_id=number)
        found = answers(server, 6)
        assert sorted(found) == list(range(6))
        for result in found.values():
            assert result["isError"]
            assert "is still" in result["content"][0]["text"]


def test_end_of_input_finishes_all_and_exits_0(model: dict[str, str]) -> None:
    with ServerProcess({**model, "VLLM_MAX_CONCURRENT": "8"}) as server:
        server.initialize()
        for number in range(20):
            server.send_call("chat_completion", chat(max_tokens=3), request_id=number)
        server.close_stdin()
        found = server.remaining(LOAD_S)
        assert Counter(message["id"] for message in found) == Counter(range(20))
        assert not any(message["result"]["isError"] for message in found)
        assert server.wait() == 0


def test_killed_engine_is_told_to_all_and_the_next_call_loads_it_again(model: dict[str, str]) -> None:
    environment = {**model, "VLLM_MAX_CONCURRENT": "4", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with ServerProcess(environment) as server:
        server.initialize()
        begin(server, range(4))
        for process in server.descendants():
            if "EngineCore" in process.command() and not reaper.is_tracker(process.pid):
                os.kill(process.pid, signal.SIGKILL)
        found = answers(server, 4)
        assert sorted(found) == list(range(4))
        for result in found.values():
            assert result["isError"]
            assert "stopped working and was dropped" in result["content"][0]["text"]
        for number in range(3):
            server.send_call("chat_completion", chat(max_tokens=3), request_id=number)
        assert not any(result["isError"] for result in answers(server, 3).values())


def test_another_machines_engine_works_on_several_at_a_time(model_server: ModelServer) -> None:
    environment = {"VLLM_BASE_URL": model_server.url, "VLLM_REMOTE_API_KEY": ModelServer.KEY}
    with ServerProcess({**environment, "VLLM_MAX_CONCURRENT": "8"}) as server:
        server.initialize()
        begin(server, ["a", "b", "c"])
        assert model_server.n_running() == 3
        cancel(server, "a")
        for number in range(12):
            server.send_call("chat_completion", chat(f"{number}: hello", 8), request_id=number)
        found = answers(server, 12)
        assert sorted(found) == list(range(12))
        alone = {n: server.result("chat_completion", chat(f"{n}: hello", 8))["text"] for n in (3, 7)}
        assert {number: texts(found)[number] for number in alone} == alone
        cancel(server, "b", "c")
