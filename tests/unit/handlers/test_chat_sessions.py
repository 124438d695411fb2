"""Sessions and their forks in chat_completion."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engine.errors import GenerationFailed, PromptTooLong
from engine.interface import ImagePart
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.chat_calls import MakeClient
from tests.unit.handlers.tool_client import Client, Json, image_parts, make_image, user


def test_session_recalls_what_was_said(client: Client) -> None:
    client.engine.enqueue("Nice to meet you")
    first = client.chat("I am Alice", session_id="s")
    second = client.chat("Who am I?", session_id="s")
    assert (first.session_id, first.session_messages, second.session_messages) == ("s", 2, 4)
    assert texts_of(client.engine.conversations[1]) == [
        ("user", "I am Alice"),
        ("assistant", "Nice to meet you"),
        ("user", "Who am I?"),
    ]


def test_sessions_do_not_mix(client: Client) -> None:
    client.chat("a", session_id="A")
    client.chat("b", session_id="B")
    assert texts_of(client.engine.conversations[1]) == [("user", "b")]


@pytest.mark.parametrize("session_id", ["../x", " ", "ünïcode", "x" * 256, "a/b\\c", "0"])
def test_session_may_have_any_printable_name(client: Client, session_id: str) -> None:
    assert client.chat(session_id=session_id).session_id == session_id
    assert client.result("get_session", {"session_id": session_id}).total_messages == 2


def test_failed_turn_is_not_remembered(client: Client) -> None:
    client.chat("first", session_id="s")
    client.engine.enqueue(raises=GenerationFailed("no"))
    client.error("chat_completion", {"messages": [user("second")], "session_id": "s"})
    client.chat("third", session_id="s")
    assert [text for _, text in texts_of(client.engine.conversations[-1])] == ["first", "reply", "third"]


def test_images_of_earlier_turns_come_along(client: Client, tmp_path: Path, png: bytes) -> None:
    part = image_parts(tmp_path, png)["path"]
    client.result("chat_completion", {"messages": [user([part])], "session_id": "s"})
    Path(part["path"]).unlink()
    client.chat("And now?", session_id="s")
    assert texts_of(client.engine.conversations[1])[0] == ("user", "<image>")


def test_oldest_turns_with_images_drop_and_the_result_says_so(make_client: MakeClient, tmp_path: Path) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="2")
    for number, color in enumerate(("red", "green", "blue")):
        (tmp_path / f"{number}.png").write_bytes(make_image(color))
        part = {"type": "image", "path": str(tmp_path / f"{number}.png")}
        chat = client.result("chat_completion", {"messages": [user([part])], "session_id": "s"})
        assert chat.truncated_messages == (2 if number == 2 else 0)
    colors = [
        part.image.getpixel((0, 0))
        for message in client.engine.conversations[2].messages
        for part in message.content
        if isinstance(part, ImagePart)
    ]
    assert colors == [(0, 128, 0), (0, 0, 255)]


def test_session_that_outgrew_the_model_drops_its_oldest_turns(client: Client) -> None:
    for text in ("one", "two"):
        client.chat(text, session_id="s")
    client.engine.enqueue(raises=PromptTooLong(3000, 2048))
    client.engine.enqueue("short enough")
    chat = client.chat("three", session_id="s")
    assert (chat.text, chat.truncated_messages, chat.session_messages) == ("short enough", 2, 4)
    assert [text for _, text in texts_of(client.engine.conversations[-1])] == ["two", "reply", "three"]


def test_system_message_never_drops(client: Client) -> None:
    system = {"role": "system", "content": "Be brief."}
    client.result("chat_completion", {"messages": [system, user("one")], "session_id": "s"})
    client.engine.enqueue(raises=PromptTooLong(3000, 2048))
    client.chat("two", session_id="s")
    assert texts_of(client.engine.conversations[-1]) == [("system", "Be brief."), ("user", "two")]


def test_message_that_is_too_long_alone_is_an_error_and_the_session_stays(client: Client) -> None:
    client.chat("one", session_id="s")
    for _ in range(2):
        client.engine.enqueue(raises=PromptTooLong(3000, 2048))
    text = client.error("chat_completion", {"messages": [user("two")], "session_id": "s"})
    assert "3000 tokens" in text
    assert "2048" in text
    assert client.result("get_session", {"session_id": "s"}).total_messages == 2


def test_long_session_drops_its_oldest_turns_and_says_so(make_client: MakeClient) -> None:
    client = make_client(VLLM_MAX_SESSION_MESSAGES="4")
    assert [client.chat(str(n), session_id="s").truncated_messages for n in range(4)] == [0, 0, 2, 2]
    assert client.result("get_session", {"session_id": "s"}).total_messages == 4


# Forks


def test_fork_continues_a_copy_and_its_source_stays(client: Client, tmp_path: Path, png: bytes) -> None:
    content = [{"type": "text", "text": "I am Alice"}, image_parts(tmp_path, png)["path"]]
    client.result("chat_completion", {"messages": [user(content)], "session_id": "s"})
    client.engine.enqueue("Alice")
    forked = client.chat("Who am I?", session_id="s", fork_session=True)
    assert forked.session_id.startswith("s-fork-")
    assert forked.session_messages == 4
    assert texts_of(client.engine.conversations[1])[-3:] == [
        ("user", "I am Alice <image>"),
        ("assistant", "reply"),
        ("user", "Who am I?"),
    ]
    assert client.result("get_session", {"session_id": "s"}).total_messages == 2
    assert client.chat("And now?", session_id=forked.session_id).session_messages == 6
    assert client.services.sessions.get(forked.session_id).images[0] is client.services.sessions.get("s").images[0]


def test_fork_may_be_named(client: Client) -> None:
    client.chat(session_id="s")
    assert client.chat(session_id="s", fork_session=True, fork_session_id="mine").session_id == "mine"


def test_failed_fork_creates_nothing(client: Client) -> None:
    client.chat(session_id="s")
    client.engine.enqueue(raises=GenerationFailed("no"))
    assert client.error("chat_completion", {"messages": [user("Hi")], "session_id": "s", "fork_session": True}) == "no"
    assert len(client.services.sessions) == 1


def test_cancelled_fork_creates_nothing(client: Client) -> None:
    client.chat(session_id="s")
    client.engine.generating.clear()
    client.engine.enqueue(tokens=["a", "b"], hold=threading.Event())
    arguments = {"messages": [user("Hi")], "session_id": "s", "fork_session": True}
    call = client.make_call("chat_completion", arguments)
    worker = threading.Thread(target=client.toolbox.run, args=(call,))
    worker.start()
    assert client.engine.generating.wait(30)
    assert call.claim_response()
    worker.join(30)
    assert [row.id for row in client.services.sessions.list()] == ["s"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fork_session": True}, "arguments.fork_session: needs session_id"),
        ({"session_id": "s", "fork_session_id": "t"}, "arguments.fork_session_id: needs fork_session: true"),
        ({"session_id": "s", "fork_session": "yes"}, "arguments.fork_session: expected bool, got str"),
        (
            {"session_id": "s", "fork_session": True, "fork_session_id": ""},
            "arguments.fork_session_id: expected str of",
        ),
        ({"session_id": "s", "fork_session": True, "fork_session_id": "s"}, "There is already a session 's'"),
        (
            {"session_id": "s", "fork_session": True, "fork_session_id": "\n"},
            "A session_id must have 1 to 256",
        ),
        ({"session_id": "unknown", "fork_session": True}, "There is no session 'unknown'"),
    ],
)
def test_wrong_fork_is_refused_and_nothing_is_loaded(client: Client, arguments: Json, words: str) -> None:
    client.chat(session_id="s")
    n_batches = len(client.engine.batches)
    assert client.error("chat_completion", {"messages": [user("Hi")], **arguments}).startswith(words)
    assert len(client.engine.batches) == n_batches
    assert len(client.services.sessions) == 1
