"""One conversation: its reply, its sampling, its images, failures, deadlines and progress."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.errors import EngineDied, EngineUnavailable, GenerationFailed, OutOfMemory, PromptTooLong
from engine.interface import Completion, FinishReason
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.chat_calls import FORMS, OUTPUT_SCHEMAS, MakeClient, structured
from tests.unit.handlers.tool_client import Client, Json, image_parts, user


def test_what_a_server_elsewhere_left_out_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = client.engine.generate

    def remarked(*asked: Any) -> list[Completion]:
        return [dataclasses.replace(each, remarks=("It does not take seed.",)) for each in generate(*asked)]

    monkeypatch.setattr(client.engine, "generate", remarked)
    client.engine.enqueue("Hello")
    chat = structured(client.run("chat_completion", {"messages": [user("Hi")]}))
    assert chat["warnings"] == ["It does not take seed."]
    jsonschema.validate(chat, OUTPUT_SCHEMAS["chat_completion"])
    client.engine.enqueue("Hello")
    batch = structured(client.run("chat_completion_batch", {"conversations": [[user("Hi")]]}))
    assert batch["results"][0]["warnings"] == ["It does not take seed."]
    jsonschema.validate(batch, OUTPUT_SCHEMAS["chat_completion_batch"])


def test_answer_is_the_one_text_block_and_structured_content_has_the_figures(client: Client) -> None:
    client.engine.enqueue("Hello there", tokens=["Hello", " there"])
    result = client.run("chat_completion", {"messages": [user("Hi you")], "seed": 7})
    assert result["content"] == [{"type": "text", "text": "Hello there"}]
    chat = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["chat_completion"]).validate(chat)
    timings = chat.pop("timings")
    assert chat == {
        "text": "Hello there",
        "finish_reason": "stop",
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 2,
            "total_tokens": 4,
            "cached_tokens": 0,
            "image_tokens": 0,
            "audio_tokens": 0,
            "video_tokens": 0,
        },
        "model": "fake-model",
        "session_id": None,
        "session_messages": None,
        "truncated_messages": 0,
        "seed": 7,
        "tool_calls": None,
        "reasoning": None,
        "logprobs": None,
        "store_problem": None,
    }  # and no warnings, since there is nothing to warn of
    assert timings["total_ms"] >= timings["queue_ms"] >= 0
    assert timings["load_ms"] == 500


def test_roles_and_parts_reach_the_engine_in_order(client: Client) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "system", "content": "Be brief."}, user("Hi"), {"role": "assistant", "content": "Yes?"}]
    client.result("chat_completion", {"messages": [*messages, user(parts)]})
    (conversation,) = client.engine.conversations
    assert texts_of(conversation) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Yes?"),
        ("user", "one two"),
    ]


def test_sampling_defaults_are_the_settings(make_client: MakeClient) -> None:
    client = make_client(VLLM_DEFAULT_TEMPERATURE="0.1", VLLM_DEFAULT_MAX_TOKENS="9", VLLM_DEFAULT_TOP_K="3")
    client.chat()
    sampling = client.engine.conversations[0].sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.top_p, sampling.top_k) == (0.1, 9, 1.0, 3)
    assert (sampling.seed, sampling.stop, sampling.min_tokens, sampling.ignore_eos) == (None, (), 0, False)


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("temperature", 0, 0.0),
        ("temperature", 2, 2.0),
        ("temperature", None, 0.7),
        ("max_tokens", 1, 1),
        ("max_tokens", 10**9, 10**9),
        ("min_tokens", 5, 5),
        ("ignore_eos", True, True),
        ("top_p", 0.01, 0.01),
        ("top_k", -1, -1),
        ("top_k", 5, 5),
        ("min_p", 1, 1.0),
        ("seed", 0, 0),
        ("seed", 2**53 - 1, 2**53 - 1),
        ("stop", "end", ("end",)),
        ("stop", ["a", "b"], ("a", "b")),
        ("stop", [], ()),
        ("stop", None, ()),
        ("presence_penalty", -2, -2.0),
        ("frequency_penalty", 2, 2.0),
        ("repetition_penalty", 10, 10.0),
    ],
)
def test_sampling_argument_reaches_the_engine(client: Client, name: str, value: Any, seen: Any) -> None:
    client.chat(**{name: value})
    assert getattr(client.engine.conversations[0].sampling, name) == seen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temperature": 2.1}, "arguments.temperature: expected float <= 2"),
        ({"temperature": "warm"}, "arguments.temperature: expected float | null, got str"),
        ({"max_tokens": 0}, "arguments.max_tokens: expected int >= 1"),
        ({"max_tokens": True}, "arguments.max_tokens: expected int | null, got bool"),
        ({"max_tokens": 600, "min_tokens": 601}, "arguments.min_tokens: 601 is more than max_tokens (600)"),
        ({"top_p": 0}, "arguments.top_p: expected float > 0"),
        ({"top_k": 0}, "arguments.top_k: expected -1 (off) or an integer ≥ 1, got 0"),
        ({"top_k": -2}, "arguments.top_k: expected int >= -1"),
        ({"seed": -1}, "arguments.seed: expected int >= 0"),
        ({"seed": 2**53}, "arguments.seed: expected int <= "),
        ({"stop": ""}, "arguments.stop: expected str of length >= 1"),
        ({"stop": ["x"] * 17}, "arguments.stop: expected array of length <= 16"),
        ({"stop": ["x", ""]}, "arguments.stop[1]: expected str of length >= 1"),
        ({"timeout_s": 0}, "arguments.timeout_s: expected float > 0"),
        ({"repetition_penalty": 0}, "arguments.repetition_penalty: expected float > 0"),
        ({"session_id": ""}, "arguments.session_id: expected str of length >= 1"),
        ({"session_id": "x" * 257}, "arguments.session_id: expected str of length <= 256"),
        ({"session_id": 5}, "arguments.session_id: expected str | null, got int"),
        ({"n": 2}, "arguments.n: there is no such argument."),
        ({"chat_template": "{{ x }}"}, "arguments.chat_template: there is no such argument."),
        ({"mm_processor_kwargs": {}}, "arguments.mm_processor_kwargs: there is no such argument."),
        ({"message": "Hi"}, "arguments.message: there is no such argument. Did you mean messages?"),
        ({"messages": []}, "arguments.messages: expected array of length >= 1"),
        ({"messages": "Hi"}, "arguments.messages: expected array, got str"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "arguments.messages[0].role: invalid enum value 'robot'"),
        ({"messages": [{"role": None, "content": "x"}]}, "arguments.messages[0].role: expected str, got null"),
        ({"messages": [{"role": "user", "content": None}]}, "arguments.messages[0].content: expected str | array"),
        ({"messages": [{"role": "user"}]}, "arguments.messages[0].content: expected str | array"),
        ({"messages": [user([])]}, "arguments.messages[0].content: expected array of length >= 1"),
        (
            {"messages": [user("a"), user([{"type": "hologram"}])]},
            "arguments.messages[1].content[0].type: invalid value",
        ),
        ({"messages": [user([{"type": "text"}])]}, "arguments.messages[0].content[0]: object missing required field"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "arguments.messages: the last message must have the"),
        ({"messages": [{"role": "system", "content": "x"}]}, "arguments.messages: the last message must have the role"),
    ],
)
def test_wrong_argument_is_named_by_its_path_and_nothing_is_loaded(client: Client, arguments: Json, words: str) -> None:
    assert client.error("chat_completion", {"messages": [user("Hi")], **arguments}).startswith(words)
    assert client.engine.n_loads == 0


def test_injected_headers_do_not_matter(client: Client) -> None:
    client.chat(headers={"authorization": "Bearer x"})


# Images


def test_message_may_have_ten_thousand_parts(client: Client) -> None:
    client.result("chat_completion", {"messages": [user([{"type": "text", "text": str(i)} for i in range(10_000)])]})
    (message,) = client.engine.conversations[0].messages
    assert len(message.content) == 10_000


@pytest.mark.parametrize("form", FORMS)
def test_image_is_taken_in_each_form(client: Client, tmp_path: Path, png: bytes, form: str) -> None:
    part = image_parts(tmp_path, png)[form]
    client.result("chat_completion", {"messages": [user([{"type": "text", "text": "What is it?"}, part])]})
    (message,) = client.engine.conversations[0].messages
    (image,) = message.images
    assert (image.image.mode, image.image.size) == ("RGB", (8, 6))
    assert image.image.getpixel((0, 0)) == (255, 0, 0)
    assert [type(item).__name__ for item in message.content] == ["TextPart", "ImagePart"]


def test_same_image_has_the_same_digest_in_every_form(client: Client, tmp_path: Path, png: bytes) -> None:
    parts = list(image_parts(tmp_path, png).values())
    client.result("chat_completion", {"messages": [user(parts)]})
    assert len({image.digest for image in client.engine.conversations[0].messages[0].images}) == 1


def test_usage_counts_the_tokens_of_images(client: Client, tmp_path: Path, png: bytes) -> None:
    parts = [image_parts(tmp_path, png)["path"]] * 2
    assert client.result("chat_completion", {"messages": [user(parts)]}).usage.image_tokens == 32


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image"}, "an image part needs exactly one of path and data."),
        ({"type": "image", "path": "/x", "data": "AA=="}, "an image part needs exactly one of path and data."),
        ({"type": "image", "path": "/no/such/picture.png"}, ""),
        ({"type": "image", "data": "%%%"}, "The image's data is not base64"),
        ({"type": "image", "data": ""}, "The image's data is empty."),
        ({"type": "image_url", "image_url": {"url": "ftp://a/b.png"}}, "The URL "),
        ({"type": "image_url", "image_url": {"url": "data:image/png,x"}}, "The data URL is percent-encoded"),
        ({"type": "image", "data": "aGVsbG8="}, ""),
    ],
)
def test_wrong_image_is_named_by_its_position(client: Client, part: Json, words: str) -> None:
    messages = [user("first"), {"role": "assistant", "content": "Yes?"}, user([{"type": "text", "text": "x"}, part])]
    text = client.error("chat_completion", {"messages": messages})
    assert text.startswith(f"arguments.messages[2].content[1]: {words}")
    assert "Traceback" not in text
    assert "0x" not in text
    assert client.engine.batches == []


def test_more_images_than_a_prompt_holds_are_refused_with_the_setting(
    make_client: MakeClient, tmp_path: Path, png: bytes
) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="1")
    text = client.error("chat_completion", {"messages": [user([image_parts(tmp_path, png)["path"]] * 2)]})
    assert text == "arguments.messages: 2 images; one prompt holds at most 1 (VLLM_MAX_IMAGES_PER_PROMPT)."


# Failures


@pytest.mark.parametrize(
    "error",
    [
        GenerationFailed("This request failed."),
        EngineDied("The engine broke."),
        PromptTooLong(5000, 2048),
        OutOfMemory("CUDA out of memory. Try: 1) Reduce VLLM_GPU_MEMORY_UTILIZATION (current: 0.9)"),
    ],
)
def test_engines_error_is_the_callers_text(client: Client, error: Any) -> None:
    client.engine.enqueue(raises=error)
    assert client.error("chat_completion", {"messages": [user("Hi")]}) == str(error)


def test_failed_load_is_the_callers_text_and_the_next_call_tries_again(client: Client) -> None:
    client.engine.load_error = EngineUnavailable("Failed to initialize vLLM: no such model")
    assert client.error("chat_completion", {"messages": [user("Hi")]}).startswith("Failed to initialize vLLM:")
    client.engine.load_error = None
    assert client.chat().text == "reply"


def test_defect_is_reported_by_an_id_without_its_details(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.engine.load_error = RuntimeError("/secret/path 0x7f00")  # type: ignore[assignment]
    text = client.error("chat_completion", {"messages": [user("Hi")]})
    assert "secret" not in text
    error_id = text.removeprefix("Internal error ").partition(";")[0]
    assert f"error {error_id}" in caplog.text
    assert "secret" in caplog.text


# Deadlines, cancelling, progress


def test_generation_ends_at_its_timeout_with_the_text_so_far(client: Client) -> None:
    client.engine.enqueue(tokens=["Once", " upon", " a time"], hold=threading.Event())
    chat = client.chat(timeout_s=1)
    assert (chat.text, chat.finish_reason) == ("Once upon", FinishReason.TIMEOUT)


def test_timed_out_turn_is_remembered_like_any_other(client: Client) -> None:
    client.engine.enqueue(tokens=["Once", " upon"], hold=threading.Event())
    assert client.chat(timeout_s=1, session_id="s").session_messages == 2
    assert client.result("get_session", {"session_id": "s"}).messages[1].text == "Once"


def test_call_that_is_cancelled_during_a_load_does_not_generate(client: Client) -> None:
    gate = client.engine.load_gate = threading.Event()
    call = client.make_call("chat_completion", {"messages": [user("Hi")], "session_id": "s"})
    worker = threading.Thread(target=client.toolbox.run, args=(call,))
    worker.start()
    assert client.engine.loading.wait(30)
    assert call.phase == "loading weights"
    assert call.claim_response()
    gate.set()
    worker.join(30)
    assert client.engine.n_loads == 1
    assert client.engine.batches == []
    assert len(client.services.sessions) == 0


def test_cancelled_generation_leaves_the_session_as_it_was(client: Client) -> None:
    client.chat("first", session_id="s")
    before = client.services.sessions.get("s")
    client.engine.generating.clear()
    client.engine.enqueue(tokens=["a", "b"], hold=threading.Event())
    call = client.make_call("chat_completion", {"messages": [user("second")], "session_id": "s"})
    worker = threading.Thread(target=client.toolbox.run, args=(call,))
    worker.start()
    assert client.engine.generating.wait(30)
    assert call.claim_response()
    worker.join(30)
    assert client.services.sessions.get("s") == before


def test_progress_tells_the_phases_and_then_all_of_the_text(client: Client) -> None:
    client.engine.enqueue(tokens=["Once", " upon", " a", " time"])
    client.result("chat_completion", {"messages": [user("Hi")], "max_tokens": 9}, progress_token=0)
    params = [message["params"] for message in client.sent]
    assert [item["message"] for item in params[:2]] == ["importing vLLM", "loading weights"]
    assert "".join(item["message"] for item in params[2:]) == "Once upon a time"
    assert params[-1]["progress"] == 4
    assert params[-1]["total"] == 9
    figures = [item["progress"] for item in params]
    assert figures == sorted(set(figures))


def test_without_a_token_the_engine_is_not_asked_for_its_steps(client: Client) -> None:
    client.chat()
    assert client.sent == []
