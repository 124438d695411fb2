from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.errors import EngineDied, EngineUnavailable, GenerationFailed, OutOfMemory, PromptTooLong
from engine.interface import Completion, FinishReason, ImagePart
from handlers.catalog import TOOLS
from mcp_protocol.jsonrpc import encode
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.conftest import Desk, Json, image_parts, picture, user

MakeDesk = Callable[..., Desk]
FORMS = ["path", "base64", "data URL", "file URL"]
OUTPUT_SCHEMAS: dict[str, Json] = {tool.name: tool.listing().get("outputSchema", {}) for tool in TOOLS}


def structured(result: Json) -> Any:
    """The `structuredContent` as a client reads it."""
    return json.loads(encode(result["structuredContent"]))


# One conversation


def test_what_a_server_elsewhere_left_out_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = desk.engine.generate

    def remarked(*asked: Any) -> list[Completion]:
        return [dataclasses.replace(each, remarks=("It does not take seed.",)) for each in generate(*asked)]

    monkeypatch.setattr(desk.engine, "generate", remarked)
    desk.engine.enqueue("Hello")
    chat = structured(desk.run("chat_completion", {"messages": [user("Hi")]}))
    assert chat["warnings"] == ["It does not take seed."]
    jsonschema.validate(chat, OUTPUT_SCHEMAS["chat_completion"])
    desk.engine.enqueue("Hello")
    batch = structured(desk.run("chat_completion_batch", {"conversations": [[user("Hi")]]}))
    assert batch["results"][0]["warnings"] == ["It does not take seed."]
    jsonschema.validate(batch, OUTPUT_SCHEMAS["chat_completion_batch"])


def test_answer_is_the_one_text_block_and_structured_content_has_the_figures(desk: Desk) -> None:
    desk.engine.enqueue("Hello there", tokens=["Hello", " there"])
    result = desk.run("chat_completion", {"messages": [user("Hi you")], "seed": 7})
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


def test_roles_and_parts_reach_the_engine_in_order(desk: Desk) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "system", "content": "Be brief."}, user("Hi"), {"role": "assistant", "content": "Yes?"}]
    desk.result("chat_completion", {"messages": [*messages, user(parts)]})
    (conversation,) = desk.engine.conversations
    assert texts_of(conversation) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Yes?"),
        ("user", "one two"),
    ]


def test_sampling_defaults_are_the_settings(make_desk: MakeDesk) -> None:
    desk = make_desk(VLLM_DEFAULT_TEMPERATURE="0.1", VLLM_DEFAULT_MAX_TOKENS="9", VLLM_DEFAULT_TOP_K="3")
    desk.chat()
    sampling = desk.engine.conversations[0].sampling
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
def test_sampling_argument_reaches_the_engine(desk: Desk, name: str, value: Any, seen: Any) -> None:
    desk.chat(**{name: value})
    assert getattr(desk.engine.conversations[0].sampling, name) == seen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temperature": 2.1}, "arguments.temperature: expected float <= 2"),
        ({"temperature": "warm"}, "arguments.temperature: expected float | null, got str"),
        ({"max_tokens": 0}, "arguments.max_tokens: expected int >= 1"),
        ({"max_tokens": True}, "arguments.max_tokens: expected int | null, got bool"),
        ({"max_tokens": 600, "min_tokens": 601}, "arguments.min_tokens: 601 is more than max_tokens (600)"),
        ({"top_p": 0}, "arguments.top_p: expected float > 0"),
        ({"top_k": 0}, "arguments.top_k: expected -1 (off) or a whole number ≥ 1, got 0"),
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
        ({"messages": [user("a"), user([{"type": "video"}])]}, "arguments.messages[1].content[0].type: invalid value"),
        ({"messages": [user([{"type": "text"}])]}, "arguments.messages[0].content[0]: object missing required field"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "arguments.messages: the last message must have the"),
        ({"messages": [{"role": "system", "content": "x"}]}, "arguments.messages: the last message must have the role"),
    ],
)
def test_wrong_argument_is_named_by_its_path_and_nothing_is_loaded(desk: Desk, arguments: Json, words: str) -> None:
    assert desk.error("chat_completion", {"messages": [user("Hi")], **arguments}).startswith(words)
    assert desk.engine.n_loads == 0


def test_injected_headers_do_not_matter(desk: Desk) -> None:
    desk.chat(headers={"authorization": "Bearer x"})


# Pictures


def test_message_may_have_ten_thousand_parts(desk: Desk) -> None:
    desk.result("chat_completion", {"messages": [user([{"type": "text", "text": str(i)} for i in range(10_000)])]})
    (message,) = desk.engine.conversations[0].messages
    assert len(message.content) == 10_000


@pytest.mark.parametrize("form", FORMS)
def test_picture_is_taken_in_each_form(desk: Desk, tmp_path: Path, png: bytes, form: str) -> None:
    part = image_parts(tmp_path, png)[form]
    desk.result("chat_completion", {"messages": [user([{"type": "text", "text": "What is it?"}, part])]})
    (message,) = desk.engine.conversations[0].messages
    (image,) = message.images
    assert (image.image.mode, image.image.size) == ("RGB", (8, 6))
    assert image.image.getpixel((0, 0)) == (255, 0, 0)
    assert [type(item).__name__ for item in message.content] == ["TextPart", "ImagePart"]


def test_same_picture_has_the_same_digest_in_every_form(desk: Desk, tmp_path: Path, png: bytes) -> None:
    parts = list(image_parts(tmp_path, png).values())
    desk.result("chat_completion", {"messages": [user(parts)]})
    assert len({image.digest for image in desk.engine.conversations[0].messages[0].images}) == 1


def test_usage_counts_the_tokens_of_pictures(desk: Desk, tmp_path: Path, png: bytes) -> None:
    parts = [image_parts(tmp_path, png)["path"]] * 2
    assert desk.result("chat_completion", {"messages": [user(parts)]}).usage.image_tokens == 32


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image"}, "an image part needs exactly one of path and data."),
        ({"type": "image", "path": "/x", "data": "AA=="}, "an image part needs exactly one of path and data."),
        ({"type": "image", "path": "/no/such/picture.png"}, ""),
        ({"type": "image", "data": "%%%"}, "The picture's data is not base64"),
        ({"type": "image", "data": ""}, "The picture's data is empty."),
        ({"type": "image_url", "image_url": {"url": "ftp://a/b.png"}}, "The URL "),
        ({"type": "image_url", "image_url": {"url": "data:image/png,x"}}, "The data URL is percent-encoded"),
        ({"type": "image", "data": "aGVsbG8="}, ""),
    ],
)
def test_wrong_picture_is_named_by_its_position(desk: Desk, part: Json, words: str) -> None:
    messages = [user("first"), {"role": "assistant", "content": "Yes?"}, user([{"type": "text", "text": "x"}, part])]
    text = desk.error("chat_completion", {"messages": messages})
    assert text.startswith(f"arguments.messages[2].content[1]: {words}")
    assert "Traceback" not in text
    assert "0x" not in text
    assert desk.engine.batches == []


def test_more_pictures_than_a_prompt_holds_are_refused_with_the_setting(
    make_desk: MakeDesk, tmp_path: Path, png: bytes
) -> None:
    desk = make_desk(VLLM_MAX_IMAGES_PER_PROMPT="1")
    text = desk.error("chat_completion", {"messages": [user([image_parts(tmp_path, png)["path"]] * 2)]})
    assert text == "arguments.messages: 2 pictures; one prompt holds at most 1 (VLLM_MAX_IMAGES_PER_PROMPT)."


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
def test_engines_error_is_the_callers_text(desk: Desk, error: Any) -> None:
    desk.engine.enqueue(raises=error)
    assert desk.error("chat_completion", {"messages": [user("Hi")]}) == str(error)


def test_failed_load_is_the_callers_text_and_the_next_call_tries_again(desk: Desk) -> None:
    desk.engine.load_error = EngineUnavailable("Failed to initialize vLLM: no such model")
    assert desk.error("chat_completion", {"messages": [user("Hi")]}).startswith("Failed to initialize vLLM:")
    desk.engine.load_error = None
    assert desk.chat().text == "reply"


def test_defect_is_reported_by_an_id_without_its_details(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.engine.load_error = RuntimeError("/secret/path 0x7f00")  # type: ignore[assignment]
    text = desk.error("chat_completion", {"messages": [user("Hi")]})
    assert "secret" not in text
    error_id = text.removeprefix("Internal error ").partition(";")[0]
    assert f"error {error_id}" in caplog.text
    assert "secret" in caplog.text


# Deadlines, cancelling, progress


def test_generation_ends_at_its_timeout_with_the_text_so_far(desk: Desk) -> None:
    desk.engine.enqueue(tokens=["Once", " upon", " a time"], hold=threading.Event())
    chat = desk.chat(timeout_s=0.05)
    assert (chat.text, chat.finish_reason) == ("Once upon", FinishReason.TIMEOUT)


def test_timed_out_turn_is_remembered_like_any_other(desk: Desk) -> None:
    desk.engine.enqueue(tokens=["Once", " upon"], hold=threading.Event())
    assert desk.chat(timeout_s=0.05, session_id="s").session_messages == 2
    assert desk.result("get_session", {"session_id": "s"}).messages[1].text == "Once"


def test_call_that_is_cancelled_during_a_load_does_not_generate(desk: Desk) -> None:
    gate = desk.engine.load_gate = threading.Event()
    call = desk.make_call("chat_completion", {"messages": [user("Hi")], "session_id": "s"})
    worker = threading.Thread(target=desk.toolbox.run, args=(call,))
    worker.start()
    assert desk.engine.loading.wait(30)
    assert call.phase == "loading weights"
    assert call.claim()
    gate.set()
    worker.join(30)
    assert desk.engine.n_loads == 1
    assert desk.engine.batches == []
    assert len(desk.services.sessions) == 0


def test_cancelled_generation_leaves_the_session_as_it_was(desk: Desk) -> None:
    desk.chat("first", session_id="s")
    before = desk.services.sessions.get("s")
    desk.engine.generating.clear()
    desk.engine.enqueue(tokens=["a", "b"], hold=threading.Event())
    call = desk.make_call("chat_completion", {"messages": [user("second")], "session_id": "s"})
    worker = threading.Thread(target=desk.toolbox.run, args=(call,))
    worker.start()
    assert desk.engine.generating.wait(30)
    assert call.claim()
    worker.join(30)
    assert desk.services.sessions.get("s") == before


def test_progress_tells_the_phases_and_then_all_of_the_text(desk: Desk) -> None:
    desk.engine.enqueue(tokens=["Once", " upon", " a", " time"])
    desk.result("chat_completion", {"messages": [user("Hi")], "max_tokens": 9}, progress_token=0)
    params = [message["params"] for message in desk.sent]
    assert [item["message"] for item in params[:2]] == ["importing vLLM", "loading weights"]
    assert "".join(item["message"] for item in params[2:]) == "Once upon a time"
    assert params[-1]["progress"] == 4
    assert params[-1]["total"] == 9
    figures = [item["progress"] for item in params]
    assert figures == sorted(set(figures))


def test_without_a_token_the_engine_is_not_asked_for_its_steps(desk: Desk) -> None:
    desk.chat()
    assert desk.sent == []


# Sessions


def test_session_recalls_what_was_said(desk: Desk) -> None:
    desk.engine.enqueue("Nice to meet you")
    first = desk.chat("I am Alice", session_id="s")
    second = desk.chat("Who am I?", session_id="s")
    assert (first.session_id, first.session_messages, second.session_messages) == ("s", 2, 4)
    assert texts_of(desk.engine.conversations[1]) == [
        ("user", "I am Alice"),
        ("assistant", "Nice to meet you"),
        ("user", "Who am I?"),
    ]


def test_sessions_do_not_mix(desk: Desk) -> None:
    desk.chat("a", session_id="A")
    desk.chat("b", session_id="B")
    assert texts_of(desk.engine.conversations[1]) == [("user", "b")]


@pytest.mark.parametrize("session_id", ["../x", " ", "ünïcode", "x" * 256, "a/b\\c", "0"])
def test_session_may_have_any_printable_name(desk: Desk, session_id: str) -> None:
    assert desk.chat(session_id=session_id).session_id == session_id
    assert desk.result("get_session", {"session_id": session_id}).total_messages == 2


def test_failed_turn_is_not_remembered(desk: Desk) -> None:
    desk.chat("first", session_id="s")
    desk.engine.enqueue(raises=GenerationFailed("no"))
    desk.error("chat_completion", {"messages": [user("second")], "session_id": "s"})
    desk.chat("third", session_id="s")
    assert [text for _, text in texts_of(desk.engine.conversations[-1])] == ["first", "reply", "third"]


def test_pictures_of_earlier_turns_come_along(desk: Desk, tmp_path: Path, png: bytes) -> None:
    part = image_parts(tmp_path, png)["path"]
    desk.result("chat_completion", {"messages": [user([part])], "session_id": "s"})
    Path(part["path"]).unlink()
    desk.chat("And now?", session_id="s")
    assert texts_of(desk.engine.conversations[1])[0] == ("user", "<image>")


def test_oldest_turns_with_pictures_drop_and_the_result_says_so(make_desk: MakeDesk, tmp_path: Path) -> None:
    desk = make_desk(VLLM_MAX_IMAGES_PER_PROMPT="2")
    for number, color in enumerate(("red", "green", "blue")):
        (tmp_path / f"{number}.png").write_bytes(picture(color))
        part = {"type": "image", "path": str(tmp_path / f"{number}.png")}
        chat = desk.result("chat_completion", {"messages": [user([part])], "session_id": "s"})
        assert chat.truncated_messages == (2 if number == 2 else 0)
    colors = [
        part.image.getpixel((0, 0))
        for message in desk.engine.conversations[2].messages
        for part in message.content
        if isinstance(part, ImagePart)
    ]
    assert colors == [(0, 128, 0), (0, 0, 255)]


def test_session_that_outgrew_the_model_drops_its_oldest_turns(desk: Desk) -> None:
    for text in ("one", "two"):
        desk.chat(text, session_id="s")
    desk.engine.enqueue(raises=PromptTooLong(3000, 2048))
    desk.engine.enqueue("short enough")
    chat = desk.chat("three", session_id="s")
    assert (chat.text, chat.truncated_messages, chat.session_messages) == ("short enough", 2, 4)
    assert [text for _, text in texts_of(desk.engine.conversations[-1])] == ["two", "reply", "three"]


def test_system_message_never_drops(desk: Desk) -> None:
    system = {"role": "system", "content": "Be brief."}
    desk.result("chat_completion", {"messages": [system, user("one")], "session_id": "s"})
    desk.engine.enqueue(raises=PromptTooLong(3000, 2048))
    desk.chat("two", session_id="s")
    assert texts_of(desk.engine.conversations[-1]) == [("system", "Be brief."), ("user", "two")]


def test_message_that_is_too_long_alone_is_an_error_and_the_session_stays(desk: Desk) -> None:
    desk.chat("one", session_id="s")
    for _ in range(2):
        desk.engine.enqueue(raises=PromptTooLong(3000, 2048))
    text = desk.error("chat_completion", {"messages": [user("two")], "session_id": "s"})
    assert "3000 tokens" in text
    assert "2048" in text
    assert desk.result("get_session", {"session_id": "s"}).total_messages == 2


def test_long_session_drops_its_oldest_turns_and_says_so(make_desk: MakeDesk) -> None:
    desk = make_desk(VLLM_MAX_SESSION_MESSAGES="4")
    assert [desk.chat(str(n), session_id="s").truncated_messages for n in range(4)] == [0, 0, 2, 2]
    assert desk.result("get_session", {"session_id": "s"}).total_messages == 4


# Forks


def test_fork_continues_a_copy_and_its_source_stays(desk: Desk, tmp_path: Path, png: bytes) -> None:
    content = [{"type": "text", "text": "I am Alice"}, image_parts(tmp_path, png)["path"]]
    desk.result("chat_completion", {"messages": [user(content)], "session_id": "s"})
    desk.engine.enqueue("Alice")
    forked = desk.chat("Who am I?", session_id="s", fork_session=True)
    assert forked.session_id.startswith("s-fork-")
    assert forked.session_messages == 4
    assert texts_of(desk.engine.conversations[1])[-3:] == [
        ("user", "I am Alice <image>"),
        ("assistant", "reply"),
        ("user", "Who am I?"),
    ]
    assert desk.result("get_session", {"session_id": "s"}).total_messages == 2
    assert desk.chat("And now?", session_id=forked.session_id).session_messages == 6
    assert desk.services.sessions.get(forked.session_id).images[0] is desk.services.sessions.get("s").images[0]


def test_fork_may_be_named(desk: Desk) -> None:
    desk.chat(session_id="s")
    assert desk.chat(session_id="s", fork_session=True, fork_session_id="mine").session_id == "mine"


def test_failed_fork_creates_nothing(desk: Desk) -> None:
    desk.chat(session_id="s")
    desk.engine.enqueue(raises=GenerationFailed("no"))
    assert desk.error("chat_completion", {"messages": [user("Hi")], "session_id": "s", "fork_session": True}) == "no"
    assert len(desk.services.sessions) == 1


def test_cancelled_fork_creates_nothing(desk: Desk) -> None:
    desk.chat(session_id="s")
    desk.engine.generating.clear()
    desk.engine.enqueue(tokens=["a", "b"], hold=threading.Event())
    arguments = {"messages": [user("Hi")], "session_id": "s", "fork_session": True}
    call = desk.make_call("chat_completion", arguments)
    worker = threading.Thread(target=desk.toolbox.run, args=(call,))
    worker.start()
    assert desk.engine.generating.wait(30)
    assert call.claim()
    worker.join(30)
    assert [row.id for row in desk.services.sessions.list()] == ["s"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fork_session": True}, "arguments.fork_session: needs a session_id"),
        ({"session_id": "s", "fork_session_id": "t"}, "arguments.fork_session_id: names the copy that fork_session"),
        ({"session_id": "s", "fork_session": "yes"}, "arguments.fork_session: expected bool, got str"),
        (
            {"session_id": "s", "fork_session": True, "fork_session_id": ""},
            "arguments.fork_session_id: expected str of",
        ),
        ({"session_id": "s", "fork_session": True, "fork_session_id": "s"}, "There is a session 's' already"),
        ({"session_id": "s", "fork_session": True, "fork_session_id": "\n"}, "A session_id has 1 to 256 printable"),
        ({"session_id": "unknown", "fork_session": True}, "There is no session 'unknown'"),
    ],
)
def test_wrong_fork_is_refused_and_nothing_is_loaded(desk: Desk, arguments: Json, words: str) -> None:
    desk.chat(session_id="s")
    n_batches = len(desk.engine.batches)
    assert desk.error("chat_completion", {"messages": [user("Hi")], **arguments}).startswith(words)
    assert len(desk.engine.batches) == n_batches
    assert len(desk.services.sessions) == 1


# Many conversations


def test_batch_answers_in_order_and_one_bad_item_does_not_fail_the_others(desk: Desk, tmp_path: Path) -> None:
    desk.engine.enqueue("A")
    desk.engine.enqueue(raises=GenerationFailed("refused"))
    desk.engine.enqueue("D", tokens=["D", "D"])
    bad = user([{"type": "image", "path": str(tmp_path / "missing.png")}])
    conversations = [[user("a")], [bad], [user("c")], [user("d")]]
    result = desk.run("chat_completion_batch", {"conversations": conversations})
    batch = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["chat_completion_batch"]).validate(batch)
    assert [item["index"] for item in batch["results"]] == [0, 1, 2, 3]
    assert [item["text"] for item in batch["results"]] == ["A", None, None, "DD"]
    assert batch["results"][1]["error"].startswith("arguments.conversations[1][0].content[0]: ")
    assert batch["results"][2]["error"] == "refused"
    assert batch["results"][1]["usage"] is None
    assert batch["usage"]["completion_tokens"] == 3
    assert len(desk.engine.batches) == 1
    assert json.loads(result["content"][0]["text"]) == batch


def test_batch_whose_items_are_all_bad_asks_the_engine_nothing(desk: Desk) -> None:
    conversations = [[{"role": "assistant", "content": "x"}]] * 2
    batch = desk.result("chat_completion_batch", {"conversations": conversations})
    assert all(item.error.startswith("arguments.conversations[") for item in batch.results)
    assert desk.engine.batches == []


def test_batch_shares_its_sampling(desk: Desk) -> None:
    desk.result("chat_completion_batch", {"conversations": [[user("a")], [user("b")]], "seed": 3, "max_tokens": 5})
    assert {conversation.sampling.seed for conversation in desk.engine.conversations} == {3}


@pytest.mark.parametrize(
    ("conversations", "words"),
    [
        ([], "arguments.conversations: expected array of length >= 1"),
        ([[]], "arguments.conversations[0]: expected array of length >= 1"),
        ([[user("x")]] * 257, "arguments.conversations: expected array of length <= 256"),
        ([[user("x")], [{"content": "x"}]], "arguments.conversations[1][0]: object missing required field role"),
    ],
)
def test_wrong_batch_is_refused(desk: Desk, conversations: Any, words: str) -> None:
    assert desk.error("chat_completion_batch", {"conversations": conversations}).startswith(words)


def test_batch_tells_its_tokens_as_progress(desk: Desk) -> None:
    conversations = [[user("a")], [user("b")]]
    desk.result("chat_completion_batch", {"conversations": conversations, "max_tokens": 7}, progress_token="t")
    (last,) = [message["params"] for message in desk.sent if message["params"].get("total")][-1:]
    assert last["total"] == 14


# What is known of the model


def test_model_info_tells_without_loading(desk: Desk) -> None:
    result = desk.run("model_info")
    info = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["model_info"]).validate(info)
    assert (info["server_state"], info["model_name"]) == ("unloaded", "fake-model")
    assert info["dtype"] is None
    assert info["max_model_len"] is None
    assert info["active_sessions"] == 0
    assert info["default_temperature"] == 0.7
    assert info["gpu_memory_utilization"] == 0.9
    assert desk.engine.n_loads == 0


def test_model_info_knows_more_after_a_load(desk: Desk) -> None:
    desk.chat(session_id="s")
    info = desk.result("model_info")
    assert (info.server_state, info.dtype, info.max_model_len, info.active_sessions) == ("ready", "float32", 2048, 1)
