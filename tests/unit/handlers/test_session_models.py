"""Sessions that change models between turns: which one answered, and what of earlier turns a model is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import PromptTooLong
from engine.interface import Conversation, ToolCall
from engine.sessions.left_out import NOTES
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.tool_client import Client, Json, user

MODELS = '{"words": "/models/words", "few": {"model": "/models/few", "max_images_per_prompt": 0}}'


@pytest.fixture
def models(make_client: Callable[..., Client], tmp_path: Path) -> Client:
    """A client whose default model takes images, and whose others take text only; sessions are in a file."""
    client = make_client(VLLM_MODELS=MODELS, VLLM_SESSION_DB=str(tmp_path / "sessions.db"))
    return reads_words_only(client)


def reads_words_only(client: Client) -> Client:
    """Makes the model `words` one that takes no images once it is loaded."""
    client.services.models.engine("words")
    client.engines["words"].sees = False
    return client


def show(client: Client, path: str, text: str = "What is this?", **arguments: Any) -> Json:
    """A turn with an image; returns its result."""
    content = [{"type": "text", "text": text}, {"type": "image", "path": path}]
    result = client.result("chat_completion", {"messages": [user(content)], "session_id": "s", **arguments})
    found: Json = msgspec.to_builtins(result)
    return found


def turn(client: Client, text: str, **arguments: str) -> Json:
    """A turn without an image; returns its result."""
    found: Json = msgspec.to_builtins(client.chat(text, session_id="s", **arguments))
    return found


def sent(client: Client, name: str) -> Conversation:
    """What a model was sent last."""
    return client.engines[name].conversations[-1]


def test_reply_keeps_which_model_wrote_it(models: Client) -> None:
    turn(models, "one")
    turn(models, "two", model="words")
    messages = models.result("get_session", {"session_id": "s"}).messages
    assert [(message.role, message.model) for message in messages] == [
        ("user", None),
        ("assistant", "fake-model"),
        ("user", None),
        ("assistant", "words"),
    ]
    (session,) = models.result("list_sessions").sessions
    assert session.model == "words"


def test_which_model_answered_outlives_a_restart(
    models: Client, make_client: Callable[..., Client], tmp_path: Path
) -> None:
    turn(models, "one")
    turn(models, "two", model="words")
    models.services.close()
    again = make_client(VLLM_MODELS=MODELS, VLLM_SESSION_DB=str(tmp_path / "sessions.db"))
    assert again.result("list_sessions").sessions[0].model == "words"
    messages = again.result("get_session", {"session_id": "s"}).messages
    assert [message.model for message in messages] == [None, "fake-model", None, "words"]
    turn(again, "three")
    assert [role for role, _ in texts_of(again.engine.conversations[-1])] == ["user", "assistant"] * 2 + ["user"]


def test_earlier_images_are_left_out_for_a_model_that_takes_none(models: Client, paths: list[str]) -> None:
    assert "warnings" not in show(models, paths[0])
    show(models, paths[1], "And this?")
    result = turn(models, "What did I show you?", model="words")
    assert result["warnings"] == [
        "Media of earlier turns were left out, since the model words does not accept them (images: 2)."
    ]
    assert result["truncated_messages"] == 0
    assert texts_of(sent(models, "words")) == [
        ("user", f"What is this? {NOTES['image']}"),
        ("assistant", "reply"),
        ("user", f"And this? {NOTES['image']}"),
        ("assistant", "reply"),
        ("user", "What did I show you?"),
    ]


def test_images_left_out_are_kept_for_models_that_take_them(models: Client, paths: list[str]) -> None:
    show(models, paths[0])
    turn(models, "What did I show you?", model="words")
    assert "warnings" not in turn(models, "And now?")
    assert texts_of(sent(models, "demo-vlm"))[0] == ("user", "What is this? <image>")
    assert [message.images for message in models.result("get_session", {"session_id": "s"}).messages] == [
        1,
        0,
        0,
        0,
        0,
        0,
    ]


def test_new_image_for_a_model_that_takes_none_is_an_error_and_nothing_is_stored(
    models: Client, paths: list[str]
) -> None:
    turn(models, "Hi")
    content = [{"type": "text", "text": "What is this?"}, {"type": "image", "path": paths[0]}]
    error = models.error("chat_completion", {"messages": [user(content)], "session_id": "s", "model": "words"})
    assert error.startswith("The model words does not accept images.")
    assert models.result("get_session", {"session_id": "s"}).total_messages == 2
    assert not models.engines["words"].batches


def test_model_whose_prompts_hold_no_images_loses_no_turn_for_them(models: Client, paths: list[str]) -> None:
    show(models, paths[0])
    result = turn(models, "What did I show you?", model="few")
    assert result["truncated_messages"] == 0
    assert result["warnings"] == [
        "Media of earlier turns were left out, since the model few does not accept them (images: 1)."
    ]
    assert models.result("get_session", {"session_id": "s"}).total_messages == 4


def test_more_images_than_a_prompt_holds_cost_no_turn_where_none_is_sent(models: Client, paths: list[str]) -> None:
    for path in paths[:4]:
        show(models, path)
    models.chat("Hello", model="words")  # what it accepts is known now
    result = turn(models, "How many?", model="words")
    assert (result["truncated_messages"], result["session_messages"]) == (0, 10)


def test_model_with_a_shorter_context_is_sent_fewer_turns(models: Client) -> None:
    for number in range(3):
        turn(models, str(number))
    models.engines["words"].enqueue(raises=PromptTooLong(3000, 2048))
    result = turn(models, "And now?", model="words")
    assert (result["truncated_messages"], result["session_messages"]) == (2, 6)
    assert texts_of(sent(models, "words"))[0] == ("user", "1")


def test_tool_results_may_continue_a_turn_with_images_of_another_model(models: Client, paths: list[str]) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
    models.engine.enqueue("", tool_calls=[ToolCall("call_1", "look_up", "{}")])
    show(models, paths[0], tools=tools, tool_choice="required")
    result = msgspec.to_builtins(
        models.result(
            "chat_completion",
            {
                "messages": [{"role": "tool", "tool_call_id": "call_1", "content": "nothing"}],
                "session_id": "s",
                "model": "words",
            },
        )
    )
    assert result["warnings"]
    assert texts_of(sent(models, "words"))[0] == ("user", f"What is this? {NOTES['image']}")
