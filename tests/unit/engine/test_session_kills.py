"""Processes that store turns and are killed at any moment, hundreds of times: no turn that was reported is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from engine.interface import ImagePart
from engine.sessions.store import SessionStore
from tests.unit.engine.session_samples import make_image, say, stored

N_KILLS = 300
N_SESSIONS = 5
KEPT_TURNS = 10
LONGEST_MOMENT_S = 0.02


def number_of_last_turn(store: SessionStore, session_id: str) -> int:
    """Turns say their number, beginning with 1."""
    plan_ids = {row.id for row in store.list()}
    return int(store.get(session_id).messages[-2].text) if session_id in plan_ids else 0


def image_of(number: int) -> ImagePart:
    """The image of a turn; large enough for several of SQLite's pages, and shared by some turns."""
    return make_image(number % 9, side=150)


def live(path: str, report: int, seed: int) -> None:
    """Stores one turn after another, and reports each when it is stored."""
    chance = random.Random(seed)
    store = stored(path, max_messages=2 * KEPT_TURNS)
    while True:
        name = f"s{chance.randrange(N_SESSIONS)}"
        number = number_of_last_turn(store, name) + 1
        say(store, name, str(number), *([image_of(number)] if number % 3 == 0 else []), max_images=64)
        if store.problem() is not None:
            os.write(report, f"problem {store.problem()}\n".encode())
        os.write(report, f"{name} {number}\n".encode())


def reports_of_one_life(path: str, seed: int, n_reports: int, then_s: float) -> list[str]:
    """Starts a process, kills it a moment after so many reports, and returns all that it reported."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reading)
            live(path, writing, seed)
        os.write(writing, f"problem {sys.exc_info()}\n".encode())
        os._exit(1)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        lines = [pipe.readline().strip() for _ in range(n_reports)]
        time.sleep(then_s)
        os.kill(child, signal.SIGKILL)
        lines += pipe.read().splitlines()
    os.waitpid(child, 0)
    return lines


@pytest.mark.slow
def test_no_reported_turn_is_lost_by_hundreds_of_kills(tmp_path: Path) -> None:
    path = str(tmp_path / "sessions.db")
    chance = random.Random(7)
    reported = {f"s{number}": 0 for number in range(N_SESSIONS)}
    for kill in range(N_KILLS):
        for line in reports_of_one_life(path, kill, chance.randrange(5), chance.uniform(0.0, LONGEST_MOMENT_S)):
            name, _, rest = line.partition(" ")
            assert name != "problem", rest
            reported[name] = int(rest)
        if kill % 20 == 19:
            check(path, reported)
    assert sum(reported.values()) > N_KILLS, "the processes got something done"


def check(path: str, reported: dict[str, int]) -> None:
    """Every session has its last turns without a gap, all that were reported and at most one that was not."""
    store = stored(path)
    known = {row.id for row in store.list()}
    for name, last in reported.items():
        if name not in known:
            assert last == 0
            continue
        session = store.get(name)
        numbers = [int(turn.messages[0].text) for turn in session.turns]
        assert numbers[-1] in (last, last + 1)
        assert numbers == list(range(max(1, numbers[-1] - KEPT_TURNS + 1), numbers[-1] + 1))
        reported[name] = numbers[-1]
        for number, turn in zip(numbers, session.turns, strict=True):
            assert [image.image.tobytes() for image in turn.images] == (
                [image_of(number).image.tobytes()] if number % 3 == 0 else []
            )
    assert store.problem() is None
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        unused = "SELECT count(*) FROM pictures WHERE digest NOT IN (SELECT digest FROM turn_pictures)"
        assert connection.execute(unused).fetchone() == (0,)
        counted = "SELECT sum(n_messages), sum(n_images), sum(image_bytes) FROM "
        sums = [connection.execute(counted + table).fetchone() for table in ("sessions", "turns")]
        assert sums[0] == sums[1]
