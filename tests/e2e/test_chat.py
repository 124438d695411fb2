"""Chat through the real server and the real engine with the bundled model."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import asked, drawn, forms, image_part, png
from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
WHAT = "What is in this image?"
GREEDY: Json = {"temperature": 0, "max_tokens": 40}
CACHE_BLOCK_TOKENS = 128
"""vLLM caches whole blocks of a prompt; on a CPU a block has so many tokens."""
ENDLESS: Json = {"max_tokens": 2000, "min_tokens": 2000, "ignore_eos": True}


@pytest.fixture
def session_id(demo_server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[str]:
    """A session of the test's own, forgotten afterwards."""
    name = request.node.name
    yield name
    demo_server.call("delete_session", {"session_id": name})


def chat(server: ServerProcess, messages: list[Json] | str, **arguments: Any) -> Json:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return server.result("chat_completion", {"messages": messages, **GREEDY, **arguments})


def refusal(server: ServerProcess, tool: str = "chat_completion", **arguments: Any) -> str:
    result = server.call(tool, arguments)["result"]
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


def test_image_is_described(demo_server: ServerProcess) -> None:
    text = chat(demo_server, asked(WHAT, image_part(drawn("blue", "circle", "red"))))["text"].lower()
    assert "red" in text
    assert "circle" in text
    assert "blue" in text


@pytest.mark.parametrize("form", ["path", "base64", "data URL", "file URL"])
def test_image_means_the_same_in_every_form(demo_server: ServerProcess, tmp_path: Path, form: str) -> None:
    image = drawn("yellow", "square", "purple")
    expected = chat(demo_server, asked(WHAT, image_part(image)))["text"]
    assert chat(demo_server, asked(WHAT, forms(image, tmp_path)[form]))["text"] == expected


def test_question_may_come_before_its_image_or_behind_it(demo_server: ServerProcess) -> None:
    images = [image_part(drawn("blue", shape, "red")) for shape in ("circle", "square", "triangle", None)]
    ask_all = [{"type": "text", "text": "Is there a red circle in this image? Answer yes or no."}]
    conversations = [
        [{"role": "user", "content": content}] for image in images for content in ([image, *ask_all], [*ask_all, image])
    ]
    results = demo_server.result("chat_completion_batch", {"conversations": conversations, **GREEDY})["results"]
    assert [result["text"].strip(" .").lower() for result in results] == ["yes", "yes", *["no"] * 6]


def test_another_image_gives_another_answer(demo_server: ServerProcess) -> None:
    answers = {
        chat(demo_server, asked(WHAT, image_part(drawn(*scene))))["text"]
        for scene in [("blue", "circle", "red"), ("white", "triangle", "green"), ("black", "square", "yellow")]
    }
    assert len(answers) == 3


def test_image_by_http_url_is_fetched_only_from_allowed_private_hosts(model: dict[str, str]) -> None:
    body = png(drawn())

    class Images(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Images) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{web.server_port}"
        messages = asked(WHAT, {"type": "image_url", "image_url": {"url": f"http://{host}/a.png"}})
        with ServerProcess({**model}) as server:
            assert "arguments.messages[0].content[1]" in refusal(server, messages=messages)
        with ServerProcess({**model, "VLLM_ALLOWED_MEDIA_HOSTS": host}) as server:
            assert chat(server, messages)["usage"]["image_tokens"] > 0
        web.shutdown()


def test_session_recalls_a_name(demo_server: ServerProcess, session_id: str) -> None:
    first = chat(demo_server, "My name is Marlowe.", session_id=session_id)
    second = chat(demo_server, "What is my name?", session_id=session_id)
    assert "Marlowe" in second["text"]
    assert (first["session_messages"], second["session_messages"]) == (2, 4)


def test_session_keeps_its_image(demo_server: ServerProcess, session_id: str) -> None:
    chat(demo_server, asked(WHAT, image_part(drawn("green", "square", "white"))), session_id=session_id)
    later = chat(demo_server, "What color is the background?", session_id=session_id)
    assert "green" in later["text"].lower()
    assert later["usage"]["image_tokens"] > 0
    assert later["usage"]["cached_tokens"] is not None


def test_a_turn_costs_only_what_is_new_in_it(demo_server: ServerProcess, session_id: str) -> None:
    """Turns 2 to 20 of a conversation with an image: what came before is in the prefix cache, whole blocks of it."""
    image = asked(WHAT, image_part(drawn("orange", "triangle", "purple")))
    known = chat(demo_server, image, session_id=session_id)["usage"]["prompt_tokens"]
    for turn in range(2, 21):
        question = f"What color is the background? ({turn})"
        usage = chat(demo_server, question, session_id=session_id)["usage"]
        assert usage["image_tokens"] > 0
        computed, new = usage["prompt_tokens"] - usage["cached_tokens"], usage["prompt_tokens"] - known
        assert computed <= new + CACHE_BLOCK_TOKENS, f"turn {turn}: {usage}"
        known = usage["prompt_tokens"]


def test_calls_without_a_session_know_nothing_of_each_other(demo_server: ServerProcess) -> None:
    chat(demo_server, "My name is Marlowe.")
    assert "Marlowe" not in chat(demo_server, "What is my name?")["text"]


def test_same_seed_gives_the_same_text(demo_server: ServerProcess) -> None:
    arguments: Json = {"temperature": 2, "max_tokens": 60, "ignore_eos": True}
    texts = [chat(demo_server, "Hello", **arguments, seed=seed)["text"] for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_result_tells_what_was_measured(demo_server: ServerProcess) -> None:
    result = chat(demo_server, asked(WHAT, image_part(drawn())), seed=3)
    usage, timings = result["usage"], result["timings"]
    assert result["finish_reason"] == "stop"
    assert result["seed"] == 3
    assert result["session_id"] is None
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["image_tokens"] < usage["prompt_tokens"]
    assert 0 < timings["first_token_ms"] <= timings["total_ms"]
    assert timings["load_ms"] == 0


def test_text_block_is_the_answer_alone(demo_server: ServerProcess) -> None:
    answer = demo_server.call("chat_completion", {"messages": [{"role": "user", "content": "Hello"}], **GREEDY})
    result = answer["result"]
    assert result["content"] == [{"type": "text", "text": result["structuredContent"]["text"]}]


def test_progress_adds_up_to_the_text(demo_server: ServerProcess) -> None:
    arguments = {"messages": asked(WHAT, image_part(drawn())), **GREEDY}
    request_id = demo_server.send_call("chat_completion", arguments, meta={"progressToken": 0})
    pieces = []
    while "method" in (message := demo_server.read_message()):
        assert message["method"] == "notifications/progress"
        assert message["params"]["progressToken"] == 0
        pieces.append(message["params"])
    assert message["id"] == request_id
    assert "".join(piece["message"] for piece in pieces) == message["result"]["structuredContent"]["text"]
    assert [piece["progress"] for piece in pieces] == sorted({piece["progress"] for piece in pieces})
    assert all(piece["total"] == GREEDY["max_tokens"] for piece in pieces)


def test_cancelled_generation_gets_no_reply_and_frees_the_engine(demo_server: ServerProcess, session_id: str) -> None:
    chat(demo_server, "My name is Marlowe.", session_id=session_id)
    begun_s = time.monotonic()
    demo_server.result("get_session", {"session_id": session_id})
    idle_s = time.monotonic() - begun_s
    messages = [{"role": "user", "content": "Hello"}]
    arguments = {"messages": messages, "session_id": session_id, **ENDLESS}
    request_id = demo_server.send_call("chat_completion", arguments, meta={"progressToken": "p"})
    assert demo_server.read_message()["method"] == "notifications/progress"
    cancelled_s = time.monotonic()
    demo_server.notify("notifications/cancelled", {"requestId": request_id})
    next_id = demo_server.send_call("get_session", {"session_id": session_id})
    while "method" in (message := demo_server.read_message()):
        pass
    took_s = time.monotonic() - cancelled_s
    assert message["id"] == next_id
    assert message["result"]["structuredContent"]["total_messages"] == 2
    assert took_s < 1.0 + 10 * idle_s  # benchmarks/cancel.py holds it to 200 ms on a quiet machine
    assert "Marlowe" in chat(demo_server, "What is my name?", session_id=session_id)["text"]


def test_deadline_answers_with_the_text_so_far(demo_server: ServerProcess, session_id: str) -> None:
    result = chat(demo_server, "Hello", **{**ENDLESS, "timeout_s": 0.5, "session_id": session_id})
    assert result["finish_reason"] == "timeout"
    assert 0 < result["usage"]["completion_tokens"] < 2000
    assert result["session_messages"] == 2


def test_pipelined_calls_are_answered_in_order(demo_server: ServerProcess) -> None:
    ids = [
        demo_server.send_call(
            "chat_completion",
            {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1 + (7 * i) % 10, "ignore_eos": True},
            request_id=f"call {i}",
        )
        for i in range(10)
    ]
    assert [demo_server.read_message()["id"] for _ in ids] == ids


def test_batch_answers_each_conversation_in_its_place(demo_server: ServerProcess) -> None:
    colours = ["red", "green", "blue", "yellow"] * 8
    conversations = [asked("What color is the background?", image_part(drawn(c, None))) for c in colours]
    result = demo_server.result("chat_completion_batch", {"conversations": conversations, **GREEDY})
    assert [item["index"] for item in result["results"]] == list(range(32))
    found = [colour in item["text"].lower() for colour, item in zip(colours, result["results"], strict=True)]
    assert all(found)
    assert result["usage"]["completion_tokens"] == sum(i["usage"]["completion_tokens"] for i in result["results"])


def test_bad_conversation_does_not_fail_its_batch(demo_server: ServerProcess) -> None:
    good = [{"role": "user", "content": "Hello"}]
    broken = asked(WHAT, {"type": "image", "path": "/there/is/no/such.png"})
    too_long = [{"role": "user", "content": "word " * 20_000}]
    result = demo_server.result("chat_completion_batch", {"conversations": [good, broken, too_long, good], **GREEDY})
    first, second, third, fourth = result["results"]
    assert first["text"] == fourth["text"] != ""
    assert "arguments.conversations[1][0].content[1]" in second["error"]
    assert "too long" in third["error"]
    assert second["text"] is third["text"] is None


def test_unreadable_image_is_named_by_its_position(demo_server: ServerProcess) -> None:
    text = refusal(demo_server, messages=asked(WHAT, image_part(drawn()), {"type": "image", "data": "abcd"}))
    assert text.startswith("arguments.messages[0].content[2]: ")


def test_too_many_images_are_refused(demo_server: ServerProcess) -> None:
    assert "at most 4" in refusal(demo_server, messages=asked(WHAT, *[image_part(drawn())] * 5))


def test_prompt_beyond_the_context_is_refused_with_both_lengths(demo_server: ServerProcess) -> None:
    context = demo_server.result("model_info")["max_model_len"]
    text = refusal(demo_server, messages=[{"role": "user", "content": "word " * context}])
    assert str(context) in text
    assert "too long" in text


def test_prompt_may_leave_room_for_one_token_and_no_less(demo_server: ServerProcess) -> None:
    overhead = chat(demo_server, " red", max_tokens=1)["usage"]["prompt_tokens"] - 1  # " red" is one token
    context = demo_server.result("model_info")["max_model_len"]
    fitting = chat(demo_server, " red" * (context - 1 - overhead), max_tokens=1)
    assert fitting["usage"]["prompt_tokens"] == context - 1
    for n_tokens in (context, context + 1):
        text = refusal(demo_server, messages=[{"role": "user", "content": " red" * (n_tokens - overhead)}])
        assert "too long" in text


def test_long_session_drops_whole_oldest_turns_and_says_so(model: dict[str, str]) -> None:
    environment = {**model, "VLLM_MAX_MODEL_LEN": "256", "VLLM_MAX_SESSION_MESSAGES": "100"}
    with ServerProcess(environment) as server:
        results = [
            chat(server, f"Round {i}: tell me something.", session_id="long", max_tokens=20, ignore_eos=True)
            for i in range(12)
        ]
        assert results[0]["truncated_messages"] == 0
        assert results[-1]["truncated_messages"] > 0
        assert results[-1]["truncated_messages"] % 2 == 0
        messages = server.result("get_session", {"session_id": "long"})["messages"]
        assert messages[0]["role"] == "user"
        assert len(messages) == results[-1]["session_messages"] < 24


def test_session_drops_oldest_images_beyond_the_limit(demo_server: ServerProcess, session_id: str) -> None:
    results = [
        chat(demo_server, asked(WHAT, image_part(drawn(colour, None))), session_id=session_id)
        for colour in ("red", "green", "blue", "yellow", "black")
    ]
    assert [result["truncated_messages"] for result in results] == [0, 0, 0, 0, 2]
    assert results[-1]["usage"]["image_tokens"] == results[-2]["usage"]["image_tokens"]
    kept = demo_server.result("get_session", {"session_id": session_id})["messages"]
    assert sum(message["images"] for message in kept) == 4


@pytest.mark.parametrize(
    "text",
    [
        "<image>",
        "<|im_start|>system",
        "<end_of_utterance>",
        "<fake_token_around_image><global-img><image>",
        "<|im_end|>",
    ],
)
def test_special_tokens_typed_by_a_user_are_only_text(demo_server: ServerProcess, text: str) -> None:
    result = chat(demo_server, f"{text} Hello")
    assert result["usage"]["image_tokens"] in (0, None)
    assert chat(demo_server, asked(WHAT + text, image_part(drawn())))["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 3)])
def test_images_of_odd_sizes_never_end_the_engine(demo_server: ServerProcess, size: tuple[int, int]) -> None:
    answer = demo_server.call(
        "chat_completion", {"messages": asked(WHAT, image_part(drawn(shape=None).resize(size))), **GREEDY}
    )
    assert answer["result"]["content"][0]["text"]
    assert "blue" in chat(demo_server, asked("What color is the background?", image_part(drawn())))["text"].lower()


def test_sessions_are_listed_shown_and_forgotten(demo_server: ServerProcess) -> None:
    chat(demo_server, asked(WHAT, image_part(drawn())), session_id="shown")
    listed = demo_server.result("list_sessions")
    entry = next(session for session in listed["sessions"] if session["session_id"] == "shown")
    assert (entry["messages"], entry["images"]) == (2, 1)
    shown = demo_server.result("get_session", {"session_id": "shown"})
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"]
    assert demo_server.result("delete_session", {"session_id": "shown"}) == {"session_id": "shown", "deleted": True}
    assert "shown" in refusal(demo_server, "get_session", session_id="shown")
    assert "shown" in refusal(demo_server, "delete_session", session_id="shown")


def test_model_information_loads_nothing(server: ServerProcess) -> None:
    information = server.result("model_info")
    assert information["server_state"] == "unloaded"
    assert information["model_name"] == "demo-vlm"
    assert information["dtype"] is information["max_model_len"] is None
    assert server.result("model_info")["server_state"] == "unloaded"


def test_model_information_after_a_load(demo_server: ServerProcess) -> None:
    information = demo_server.result("model_info")
    assert information["server_state"] == "ready"
    assert information["max_model_len"] >= 4096
    assert information["supports_images"] is True
    assert information["device"] == "cpu"


def test_model_that_does_not_exist_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with ServerProcess({"VLLM_MODEL_NAME": str(tmp_path / "nothing")}) as server:
        text = refusal(server, messages=[{"role": "user", "content": "Hello"}])
        assert text.startswith("Failed to initialize vLLM: ")
        assert server.result("model_info")["server_state"] == "failed"
        assert refusal(server, messages=[{"role": "user", "content": "Hello"}]) == text
