from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.interface import Message, TextPart, ToolCall
from handlers.tool_table import TOOLS
from mcp_protocol.jsonrpc import encode
from tests.unit.handlers.tool_client import Client, Json, image_parts, user

OUTPUT_SCHEMAS: dict[str, Json] = {tool.name: tool.listing().get("outputSchema", {}) for tool in TOOLS}


def checked(client: Client, tool: str, arguments: dict[str, Any] | None = None) -> Any:
    """The result as a client reads it, valid against the tool's schema."""
    result = json.loads(encode(client.result(tool, arguments)))
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS[tool]).validate(result)
    return result


def test_no_sessions_at_first(client: Client) -> None:
    assert checked(client, "list_sessions") == {
        "sessions": [],
        "offset": 0,
        "next_offset": None,
        "active_sessions": 0,
        "max_sessions": 100,
        "store_problem": None,
    }


def test_sessions_are_listed_oldest_created_first(client: Client, tmp_path: Path, png: bytes) -> None:
    for session_id in ("b", "a"):
        client.chat(session_id=session_id)
    client.result("chat_completion", {"messages": [user([image_parts(tmp_path, png)["path"]])], "session_id": "b"})
    listed = checked(client, "list_sessions")
    assert [(item["session_id"], item["messages"], item["images"]) for item in listed["sessions"]] == [
        ("b", 4, 1),
        ("a", 2, 0),
    ]
    assert listed["sessions"][0]["image_bytes"] == 8 * 6 * 3
    assert listed["active_sessions"] == 2


def test_oldest_created_session_goes_when_there_are_too_many(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_MAX_SESSIONS="2")
    for session_id in ("a", "b", "a", "c"):
        client.chat(session_id=session_id)
    assert [item["session_id"] for item in checked(client, "list_sessions")["sessions"]] == ["b", "c"]


def test_session_is_shown_with_its_texts_and_numbers_of_images(client: Client, tmp_path: Path, png: bytes) -> None:
    part = image_parts(tmp_path, png)["base64"]
    client.engine.enqueue("Red")
    content = [{"type": "text", "text": "What is it?"}, part]
    client.result("chat_completion", {"messages": [user(content)], "session_id": "s"})
    shown = checked(client, "get_session", {"session_id": "s"})
    rest = {"tool_calls": None, "tool_call_id": None, "omitted_characters": 0, "audio": 0, "videos": 0}
    assert shown["messages"] == [
        {"role": "user", "text": "What is it?", "images": 1, "model": None, **rest},
        {"role": "assistant", "text": "Red", "images": 0, "model": "fake-model", **rest},
    ]
    assert shown["total_messages"] == 2


@pytest.mark.parametrize(
    ("page", "texts", "next_offset"),
    [
        ({}, ["0", "reply", "1", "reply"], None),
        ({"offset": 1, "limit": 2}, ["reply", "1"], 3),
        ({"offset": 3, "limit": 1000}, ["reply"], None),
        ({"offset": 100}, [], None),
    ],
)
def test_session_is_shown_a_page_at_a_time(
    client: Client, page: dict[str, int], texts: list[str], next_offset: int | None
) -> None:
    for number in range(2):
        client.chat(str(number), session_id="s")
    shown = checked(client, "get_session", {"session_id": "s", **page})
    assert [message["text"] for message in shown["messages"]] == texts
    assert (shown["offset"], shown["next_offset"]) == (page.get("offset", 0), next_offset)
    assert shown["total_messages"] == 4


def in_pages(client: Client, tool: str, items: str, arguments: Json) -> list[Any]:
    """All items of a list, read page by page, each of which must fit into a result."""
    found: list[Any] = []
    offset: int | None = 0
    while offset is not None:
        result = client.run(tool, {**arguments, "offset": offset})
        assert len(encode(result)) <= client.services.settings.server.max_result_bytes
        page = json.loads(encode(result["structuredContent"]))
        assert page["offset"] == offset
        assert page[items], "every page brings something"
        found += page[items]
        offset = page["next_offset"]
    return found


def test_session_larger_than_a_result_is_read_in_pages(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_MAX_RESULT_BYTES="10000")
    said = [f"{number} " + letters * 900 for number, letters in enumerate(("a", '"\\', "日"))]
    for text in said:
        client.chat(text, session_id="s")
    shown = in_pages(client, "get_session", "messages", {"session_id": "s", "limit": 1000})
    assert shown[0]["text"] == said[0]
    for message, text in zip(shown[::2], said, strict=True):
        assert text.startswith(message["text"])
        assert len(message["text"]) + message["omitted_characters"] == len(text)


def test_sessions_larger_than_a_result_are_listed_in_pages(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_MAX_RESULT_BYTES="10000")
    names = [f"{number} " + "日" * 200 for number in range(20)]
    for name in names:
        client.chat("hi", session_id=name)
    listed = in_pages(client, "list_sessions", "sessions", {"limit": 1000})
    assert [item["session_id"] for item in listed] == names
    listed = in_pages(client, "list_sessions", "sessions", {"limit": 1})
    assert [item["session_id"] for item in listed] == names


def test_session_shows_calls_of_tools_and_their_answers(client: Client) -> None:
    store = client.services.sessions
    call = ToolCall("call_1", "add", '{"a": 1}')
    store.commit(store.plan("s", [Message("user", (TextPart("1 + 1?"),))], 4), Message("assistant", (), (call,)))
    answered = Message("tool", (TextPart("2"),), tool_call_id="call_1")
    store.commit(store.plan("s", [answered], 4), Message("assistant", (TextPart("lone \ud800"),)))
    _, asked, answer, last = checked(client, "get_session", {"session_id": "s"})["messages"]
    assert asked["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    ]
    assert (answer["role"], answer["text"], answer["tool_call_id"]) == ("tool", "2", "call_1")
    assert last["text"] == "lone \ufffd"


def test_sessions_survive_in_their_file(make_client: Callable[..., Client], tmp_path: Path, png: bytes) -> None:
    path = str(tmp_path / "kept" / "sessions.db")
    client = make_client(VLLM_SESSION_DB=path)
    assert client.result("model_info").active_sessions == 0
    assert not Path(path).parent.exists()
    part = image_parts(tmp_path, png)["base64"]
    client.result("chat_completion", {"messages": [user([part])], "session_id": "s"})
    again = make_client(VLLM_SESSION_DB=path)
    assert again.result("model_info").active_sessions == 1
    assert checked(again, "list_sessions")["sessions"] == checked(client, "list_sessions")["sessions"]
    assert again.chat("And now?", session_id="s").session_messages == 4
    assert [len(message.images) for message in again.engine.conversations[0].messages] == [1, 0, 0]


def test_problem_with_the_file_is_told_and_the_answer_given(make_client: Callable[..., Client], tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(b"no database " * 100)
    client = make_client(VLLM_SESSION_DB=str(path))
    chat = client.chat(session_id="s")
    assert chat.text == "reply"
    assert "renamed to sessions.db.damaged-" in chat.store_problem
    assert client.chat().store_problem is None
    assert checked(client, "list_sessions")["store_problem"] == chat.store_problem
    assert checked(client, "model_info")["store_problem"] == chat.store_problem


def test_session_that_cannot_be_deleted_now_is_an_error_and_stays(
    make_client: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.sessions.db_file.BUSY_S", 0.05)
    client = make_client(VLLM_SESSION_DB=str(tmp_path / "sessions.db"))
    client.chat(session_id="s")
    with contextlib.closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        text = client.error("delete_session", {"session_id": "s"})
    assert "The session was not deleted; try again." in text
    assert str(tmp_path) not in text
    assert client.result("get_session", {"session_id": "s"}).total_messages == 2
    assert client.result("delete_session", {"session_id": "s"}).deleted


def test_deleted_session_is_forgotten(client: Client) -> None:
    client.chat("one", session_id="s")
    assert checked(client, "delete_session", {"session_id": "s"}) == {"session_id": "s", "deleted": True}
    assert client.chat("two", session_id="s").session_messages == 2
    assert [message.text for message in client.engine.conversations[-1].messages] == ["two"]


@pytest.mark.parametrize("tool", ["get_session", "delete_session"])
@pytest.mark.parametrize("session_id", ["unknown", "", "../x", "x" * 1_000_000, "\ud800"])
def test_unknown_session_is_an_error_that_stays_short(client: Client, tool: str, session_id: str) -> None:
    text = client.error(tool, {"session_id": session_id})
    assert "session" in text
    assert len(text) < 1000
    assert "Internal error" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "arguments: object missing required field session_id"),
        ({"session_id": None}, "arguments.session_id: expected str, got null"),
        ({"session_id": "s", "limit": 0}, "arguments.limit: expected int >= 1"),
        ({"session_id": "s", "limit": 1001}, "arguments.limit: expected int <= 1000"),
        ({"session_id": "s", "offset": -1}, "arguments.offset: expected int >= 0"),
    ],
)
def test_wrong_argument_is_named(client: Client, arguments: dict[str, Any], words: str) -> None:
    assert client.error("get_session", arguments).startswith(words)
