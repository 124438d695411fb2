"""Sessions in a file, with the real server: killed between turns and in the middle of one, it loses nothing it said.

The usual run is a short one. `STORED_TURNS=1000 STORED_SESSIONS=50 TURNS_A_KILL=50` makes the long one, which takes
several minutes: each kill costs a start with a load.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import asked, drawn, image_part
from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
N_TURNS = int(os.environ.get("STORED_TURNS", "100"))
N_SESSIONS = int(os.environ.get("STORED_SESSIONS", "10"))
TURNS_A_KILL = int(os.environ.get("TURNS_A_KILL", "34"))
SHORT: Json = {"temperature": 0, "max_tokens": 6}
ENDLESS: Json = {"max_tokens": 2000, "min_tokens": 2000, "ignore_eos": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "sessions.db"


@pytest.fixture
def stored(model: dict[str, str], path: Path) -> dict[str, str]:
    """The settings of servers that share one file."""
    return {**model, "VLLM_SESSION_DB": str(path)}


class Conversations:
    """What was said in all sessions, as far as an answer came."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings
        self.said: dict[str, list[tuple[str, str, int]]] = {}
        self.server = self._started()

    def turn(self, number: int) -> None:
        """One turn of one session; the first of some sessions has an image."""
        session_id = f"session {number % N_SESSIONS}"
        before = self.said.setdefault(session_id, [])
        text = f"Turn {number}: hello!"
        parts = [image_part(drawn("green"))] if not before and number % 5 == 0 else []
        arguments = {"messages": asked(text, *parts), "session_id": session_id, **SHORT}
        result = self.server.result("chat_completion", arguments)
        assert result["session_messages"] == len(before) + 2, "the session goes on where it was"
        assert result["store_problem"] is None
        before += [("user", text, len(parts)), ("assistant", result["text"], 0)]

    def kill_between_turns(self) -> None:
        """Kills the server right after its last answer, and starts it again."""
        self._restart()

    def kill_during_a_turn(self) -> None:
        """Kills the server while it generates in one session, and starts it again."""
        arguments = {"messages": asked("This is never answered."), "session_id": "session 0", **ENDLESS}
        self.server.send_call("chat_completion", arguments, meta={"progressToken": "p"})
        for _ in range(3):
            assert self.server.read_message()["method"] == "notifications/progress"
        self._restart()

    def check(self) -> None:
        """The server has every session with all that was said in it, and no more."""
        listed = self.server.result("list_sessions", {"limit": 1000})
        assert {item["session_id"]: item["messages"] for item in listed["sessions"]} == {
            session_id: len(messages) for session_id, messages in self.said.items()
        }
        assert listed["store_problem"] is None
        for session_id, messages in self.said.items():
            shown = self.server.result("get_session", {"session_id": session_id, "limit": 1000})
            assert [(item["role"], item["text"], item["images"]) for item in shown["messages"]] == messages

    def _restart(self) -> None:
        self.server.signal(signal.SIGKILL)
        self.server.wait()
        self.server.kill()
        self.server = self._started()
        self.check()

    def _started(self) -> ServerProcess:
        server = ServerProcess(self._settings)
        server.initialize()
        return server


@pytest.fixture
def conversations(stored: dict[str, str]) -> Iterator[Conversations]:
    """Conversations with a server of their own."""
    found = Conversations(stored)
    yield found
    found.server.kill()


@pytest.mark.timeout(3600)
def test_no_answered_turn_is_lost_by_kills_and_every_session_goes_on(conversations: Conversations) -> None:
    ways = (conversations.kill_during_a_turn, conversations.kill_between_turns)
    for number in range(N_TURNS):
        conversations.turn(number)
        if (number + 1) % TURNS_A_KILL == 0:
            ways[number // TURNS_A_KILL % len(ways)]()
    conversations.check()


def test_image_and_fork_survive_a_kill(stored: dict[str, str], path: Path) -> None:
    question = asked("What color is the background?")
    with ServerProcess(stored) as server:
        seen = asked("What is in this image?", image_part(drawn("green", "square", "white")))
        server.result("chat_completion", {"messages": seen, "session_id": "s", "temperature": 0, "max_tokens": 40})
        server.signal(signal.SIGKILL)
        server.wait()
    with ServerProcess(stored) as server:
        arguments = {"messages": question, "session_id": "s", "fork_session": True, "temperature": 0, "max_tokens": 20}
        forked = server.result("chat_completion", arguments)
        assert "green" in forked["text"].lower()
        assert forked["usage"]["image_tokens"] > 0
        assert forked["session_id"].startswith("s-fork-")
        assert forked["session_messages"] == 4
        assert server.result("get_session", {"session_id": "s"})["total_messages"] == 2
        answer = server.call("chat_completion", {**arguments, "session_id": "nobody"})["result"]
        assert answer["isError"]
        assert len(server.result("list_sessions")["sessions"]) == 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert [file.name for file in path.parent.iterdir()] == ["sessions.db"]


def test_file_that_cannot_be_used_costs_no_answer(stored: dict[str, str], path: Path) -> None:
    path.parent.touch()
    with ServerProcess(stored) as server:
        for _ in range(2):
            result = server.result("chat_completion", {"messages": asked("Hello"), "session_id": "s", **SHORT})
            assert "kept in memory" in result["store_problem"]
        assert result["session_messages"] == 4
        assert str(path.parent) not in result["store_problem"]
        assert server.result("model_info")["store_problem"] == result["store_problem"]


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8192, b"notes, and no database", b"SQLite format 3\0" + b"\x13" * 20_000]
)
def test_every_server_starts_and_lists_whatever_the_file_is(stored: dict[str, str], path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with ServerProcess(stored) as one, ServerProcess(stored) as other:
        for server in (one, other):
            server.initialize()
        assert path.read_bytes() == content, "nothing is touched at the start"
        for server in (one, other):
            listed = server.result("list_sessions")
            assert listed["sessions"] == []
        assert any(file.read_bytes() == content for file in path.parent.iterdir()) or not content
