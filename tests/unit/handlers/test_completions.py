"""Completions: what begins with what was typed, and no file outside of the allowed folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.resources import catalogues
from tests.unit.handlers.conftest import Desk

PICTURE = ({"type": "ref/prompt", "name": "describe_picture"}, "picture")
SESSION = ({"type": "ref/resource", "uri": "vllm://sessions/{session_id}"}, "session_id")
MODEL = ({"type": "ref/resource", "uri": "vllm://models/{model}"}, "model")

Json = dict[str, Any]


def complete(desk: Desk, what: tuple[Json, str], value: str) -> Json:
    """A whole completion."""
    ref, name = what
    params = {"ref": ref, "argument": {"name": name, "value": value}}
    found: Json = catalogues(desk.services).completion(params)["completion"]
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder with pictures and more, and a sibling that is not allowed."""
    root = tmp_path / "pictures"
    (root / "cats").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "c.webp", "notes.txt", ".hidden.png", "cats/tom.gif"):
        (root / name).touch()
    (tmp_path / "pictures-evil").mkdir()
    (tmp_path / "pictures-evil" / "x.png").touch()
    (root / "out").symlink_to(tmp_path / "pictures-evil")
    return root


@pytest.fixture
def confined(make_desk: Callable[..., Desk], root: Path) -> Desk:
    """A desk that reads pictures in that folder alone."""
    return make_desk(VLLM_ALLOWED_MEDIA_DIRS=str(root))


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("{root}/", ["a.png", "b.JPG", "c.webp", "cats/"]),
        ("{root}/a", ["a.png"]),
        ("{root}/c", ["c.webp", "cats/"]),
        ("{root}/cats/", ["cats/tom.gif"]),
        ("{root}/cats/t", ["cats/tom.gif"]),
        ("{root}/none", []),
        ("{root}/cats", ["cats/"]),
    ],
)
def test_pictures_and_folders_are_completed(confined: Desk, root: Path, typed: str, found: list[str]) -> None:
    values = complete(confined, PICTURE, typed.replace("{root}", str(root)))["values"]
    assert [value for value in values if value != f"{root}/"] == [f"{root}/{name}" for name in found]


@pytest.mark.parametrize("typed", ["", "/", "{parent}", "{parent}/", "{parent}/pic", "{root}"])
def test_way_to_the_allowed_folder_is_shown(confined: Desk, root: Path, typed: str) -> None:
    typed = typed.replace("{parent}", str(root.parent)).replace("{root}", str(root))
    assert complete(confined, PICTURE, typed)["values"] == [f"{root}/"]


@pytest.mark.parametrize(
    "typed",
    [
        "{root}-evil/",
        "{root}/out/",
        "{root}/../",
        "{root}/../pictures-evil/x",
        "{root}/cats/../../pictures-evil/",
        "/etc/",
        "/proc/self/",
        "pictures/",
        "~/",
        "file://{root}/",
        "{root}/\x00",
        "{root}\x00/",
        "{root}/notes.txt/",
        "{root}/" + "x" * 10_000,
        "/" * 10_000,
        "\ud800/",
    ],
)
def test_nothing_is_shown_outside_of_the_folders(confined: Desk, root: Path, typed: str) -> None:
    assert complete(confined, PICTURE, typed.replace("{root}", str(root)))["values"] == []


def test_no_file_is_looked_for_where_no_folder_is_named(desk: Desk, root: Path) -> None:
    assert complete(desk, PICTURE, f"{root}/") == {"values": [], "total": 0, "hasMore": False}


def test_many_pictures_are_counted(confined: Desk, root: Path) -> None:
    for number in range(150):
        (root / "cats" / f"{number}.png").touch()
    found = complete(confined, PICTURE, f"{root}/cats/")
    assert (len(found["values"]), found["total"], found["hasMore"]) == (100, 151, True)
    found = complete(confined, PICTURE, f"{root}/cats/14")
    assert (len(found["values"]), found["total"], found["hasMore"]) == (11, 11, False)


def test_each_picture_argument_is_completed(confined: Desk, root: Path) -> None:
    for prompt, name in (("compare_pictures", "first"), ("compare_pictures", "second"), ("extract_json", "picture")):
        found = complete(confined, ({"type": "ref/prompt", "name": prompt}, name), f"{root}/a")
        assert found["values"] == [f"{root}/a.png"]


def test_sessions_are_completed_by_their_beginning(desk: Desk) -> None:
    for session_id in ("user-1", "user-2", "other"):
        desk.chat(session_id=session_id)
    assert complete(desk, SESSION, "user")["values"] == ["user-1", "user-2"]
    assert complete(desk, SESSION, "")["total"] == 3
    assert complete(desk, SESSION, "User")["values"] == []


def test_models_with_a_card_are_completed(make_desk: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    desk = make_desk(VLLM_MODEL_NAME=str(tmp_path))
    assert complete(desk, MODEL, "")["values"] == [str(tmp_path), "demo-vlm"]
    assert complete(desk, MODEL, "demo")["values"] == ["demo-vlm"]


@pytest.mark.parametrize(("typed", "found"), [("ger", ["German"]), ("GER", ["German"]), ("x", [])])
def test_languages_are_completed_in_any_case(desk: Desk, typed: str, found: list[str]) -> None:
    what = ({"type": "ref/prompt", "name": "describe_picture"}, "language")
    assert complete(desk, what, typed)["values"] == found
