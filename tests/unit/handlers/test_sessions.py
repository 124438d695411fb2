from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from handlers.catalog import TOOLS
from mcp_protocol.jsonrpc import encode
from tests.unit.handlers.conftest import Desk, Json, image_parts, user

OUTPUT_SCHEMAS: dict[str, Json] = {tool.name: tool.listing().get("outputSchema", {}) for tool in TOOLS}


def checked(desk: Desk, tool: str, arguments: dict[str, Any] | None = None) -> Any:
    """The result as a client reads it, valid against the tool's schema."""
    result = json.loads(encode(desk.result(tool, arguments)))
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS[tool]).validate(result)
    return result


def test_no_sessions_at_first(desk: Desk) -> None:
    assert checked(desk, "list_sessions") == {"sessions": [], "active_sessions": 0, "max_sessions": 100}


def test_sessions_are_listed_oldest_created_first(desk: Desk, tmp_path: Path, png: bytes) -> None:
    for session_id in ("b", "a"):
        desk.chat(session_id=session_id)
    desk.result("chat_completion", {"messages": [user([image_parts(tmp_path, png)["path"]])], "session_id": "b"})
    listed = checked(desk, "list_sessions")
    assert [(item["session_id"], item["messages"], item["images"]) for item in listed["sessions"]] == [
        ("b", 4, 1),
        ("a", 2, 0),
    ]
    assert listed["sessions"][0]["image_bytes"] == 8 * 6 * 3
    assert listed["active_sessions"] == 2


def test_oldest_created_session_goes_when_there_are_too_many(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(VLLM_MAX_SESSIONS="2")
    for session_id in ("a", "b", "a", "c"):
        desk.chat(session_id=session_id)
    assert [item["session_id"] for item in checked(desk, "list_sessions")["sessions"]] == ["b", "c"]


def test_session_is_shown_with_its_texts_and_numbers_of_pictures(desk: Desk, tmp_path: Path, png: bytes) -> None:
    part = image_parts(tmp_path, png)["base64"]
    desk.engine.enqueue("Red")
    content = [{"type": "text", "text": "What is it?"}, part]
    desk.result("chat_completion", {"messages": [user(content)], "session_id": "s"})
    shown = checked(desk, "get_session", {"session_id": "s"})
    no_calls = {"tool_calls": None, "tool_call_id": None}
    assert shown["messages"] == [
        {"role": "user", "text": "What is it?", "images": 1, **no_calls},
        {"role": "assistant", "text": "Red", "images": 0, **no_calls},
    ]
    assert shown["total_messages"] == 2


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        ({}, ["0", "reply", "1", "reply"]),
        ({"offset": 1, "limit": 2}, ["reply", "1"]),
        ({"offset": 3, "limit": 1000}, ["reply"]),
        ({"offset": 100}, []),
    ],
)
def test_session_is_shown_a_page_at_a_time(desk: Desk, page: dict[str, int], texts: list[str]) -> None:
    for number in range(2):
        desk.chat(str(number), session_id="s")
    shown = checked(desk, "get_session", {"session_id": "s", **page})
    assert [message["text"] for message in shown["messages"]] == texts
    assert shown["total_messages"] == 4


def test_deleted_session_is_forgotten(desk: Desk) -> None:
    desk.chat("one", session_id="s")
    assert checked(desk, "delete_session", {"session_id": "s"}) == {"session_id": "s", "deleted": True}
    assert desk.chat("two", session_id="s").session_messages == 2
    assert [message.text for message in desk.engine.conversations[-1].messages] == ["two"]


@pytest.mark.parametrize("tool", ["get_session", "delete_session"])
@pytest.mark.parametrize("session_id", ["unknown", "", "../x", "x" * 1_000_000, "\ud800"])
def test_unknown_session_is_an_error_that_stays_short(desk: Desk, tool: str, session_id: str) -> None:
    text = desk.error(tool, {"session_id": session_id})
    assert "session" in text
    assert len(text) < 1000
    assert "Internal error" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "arguments: object missing required field session_id"),
        ({"session_id": None}, "arguments.session_id: expected str, got null"),
        ({"session_id": "s", "limit": 0}, "arguments.limit: expected int >= 1"),
        ({"session_id": "s", "offset": -1}, "arguments.offset: expected int >= 0"),
    ],
)
def test_wrong_argument_is_named(desk: Desk, arguments: dict[str, Any], words: str) -> None:
    assert desk.error("get_session", arguments).startswith(words)
