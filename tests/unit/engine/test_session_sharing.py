"""Two servers on one file: each sees what the other has stored, and neither takes anything away from it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.sessions import db_file
from tests.unit.engine.session_samples import make_image, message, say, stored, texts

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sessions.db")


def test_two_servers_each_add_to_a_session_and_see_the_other_s(path: str) -> None:
    first, second = stored(path), stored(path)
    say(first, "s", "one")
    say(second, "s", "two")
    say(first, "s", "three", make_image(1))
    for store in (first, second, stored(path)):
        assert texts(store.get("s").messages) == ["one", "ok", "two", "ok", "three", "ok"]
    assert first.get("s").images[0].digest == second.get("s").images[0].digest


def test_two_turns_at_once_are_both_kept(path: str) -> None:
    first, second = stored(path), stored(path)
    say(first, "s", "one")
    plans = [store.plan("s", [message("user", text)], 4) for store, text in ((first, "a"), (second, "b"))]
    for store, plan in zip((first, second), plans, strict=True):
        store.commit(plan, message("assistant", "ok"))
    for store in (first, second, stored(path)):
        assert texts(store.get("s").messages) == ["one", "ok", "a", "ok", "b", "ok"]


def test_turn_that_one_server_drops_stays_dropped(path: str) -> None:
    first, second = stored(path, max_messages=4), stored(path, max_messages=4)
    for text in ("one", "two"):
        say(first, "s", text, make_image(1))
    plan = second.plan("s", [message("user", "b")], 4)
    say(first, "s", "a")
    second.commit(plan, message("assistant", "ok"))
    assert texts(stored(path).get("s").messages) == ["two", "ok", "a", "ok", "b", "ok"]
    assert say(first, "s", "c") == 4
    assert texts(stored(path).get("s").messages) == ["b", "ok", "c", "ok"]


def test_session_that_was_deleted_during_a_turn_begins_with_that_turn(path: str) -> None:
    first, second = stored(path), stored(path)
    say(first, "s", "secret", make_image(1))
    plan = second.plan("s", [message("user", "b")], 4)
    assert first.delete("s")
    second.commit(plan, message("assistant", "ok"))
    for store in (first, second, stored(path)):
        assert texts(store.get("s").messages) == ["b", "ok"]


def test_session_made_anew_by_another_server_is_not_taken_for_the_old_one(path: str) -> None:
    first, second = stored(path), stored(path)
    say(first, "s", "old")
    second.delete("s")
    say(second, "s", "new")
    assert texts(first.get("s").messages) == ["new", "ok"]
    second.delete("s")
    assert len(first) == 0
    assert first.plan("s", [message("user", "hi")], 4).turns == ()


def test_open_file_waits_its_turn(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_file, "BUSY_S", 30.0)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.unit.engine.session_samples import make_image, say, stored\n"
        "store = stored(sys.argv[2], max_messages=1000)\n"
        "for number in range(40):\n"
        "    say(store, 'shared', f'{sys.argv[3]} {number}', *[make_image(7)][number:])\n"
        "    assert store.problem() is None, store.problem()\n"
    )
    command = [sys.executable, "-c", program, str(ROOT), path]
    began_s = time.monotonic()
    servers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in range(3)]
    for server in servers:
        _, errors = server.communicate(timeout=120)
        assert server.returncode == 0, errors.decode()
    assert time.monotonic() - began_s < 120
    said = texts(stored(path, max_messages=1000).get("shared").messages)[::2]
    assert len(said) == 120
    for number in range(3):
        assert [text for text in said if text.startswith(f"{number} ")] == [f"{number} {turn}" for turn in range(40)]
