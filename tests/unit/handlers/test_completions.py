"""Completions: what begins with what was typed, and no file outside of the allowed folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.resources.resources import resource_registry
from tests.unit.handlers.tool_client import Client

IMAGE = ({"type": "ref/prompt", "name": "describe_picture"}, "picture")
SESSION = ({"type": "ref/resource", "uri": "vllm://sessions/{session_id}"}, "session_id")
MODEL = ({"type": "ref/resource", "uri": "vllm://models/{model}"}, "model")

Json = dict[str, Any]


def complete(client: Client, what: tuple[Json, str], value: str) -> Json:
    """A whole completion."""
    ref, name = what
    params = {"ref": ref, "argument": {"name": name, "value": value}}
    found: Json = resource_registry(client.services).completion(params)["completion"]
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder with images and more, and a sibling that is not allowed."""
    root = tmp_path / "pictures"
    (root / "cats").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "c.webp", "notes.txt", ".hidden.png", "cats/tom.gif"):
        (root / name).touch()
    (tmp_path / "pictures-evil").mkdir()
    (tmp_path / "pictures-evil" / "x.png").touch()
    (root / "out").symlink_to(tmp_path / "pictures-evil")
    return root


@pytest.fixture
def confined(make_client: Callable[..., Client], root: Path) -> Client:
    """A client that reads images in that folder alone."""
    return make_client(VLLM_ALLOWED_MEDIA_DIRS=str(root))


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
def test_images_and_folders_are_completed(confined: Client, root: Path, typed: str, found: list[str]) -> None:
    values = complete(confined, IMAGE, typed.replace("{root}", str(root)))["values"]
    assert [value for value in values if value != f"{root}/"] == [f"{root}/{name}" for name in found]


@pytest.mark.parametrize("typed", ["", "/", "{parent}", "{parent}/", "{parent}/pic", "{root}"])
def test_way_to_the_allowed_folder_is_shown(confined: Client, root: Path, typed: str) -> None:
    typed = typed.replace("{parent}", str(root.parent)).replace("{root}", str(root))
    assert complete(confined, IMAGE, typed)["values"] == [f"{root}/"]


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
def test_nothing_is_shown_outside_of_the_folders(confined: Client, root: Path, typed: str) -> None:
    assert complete(confined, IMAGE, typed.replace("{root}", str(root)))["values"] == []


def test_no_file_is_looked_for_where_no_folder_is_named(client: Client, root: Path) -> None:
    assert complete(client, IMAGE, f"{root}/") == {"values": [], "total": 0, "hasMore": False}


def test_many_images_are_counted(confined: Client, root: Path) -> None:
    for number in range(150):
        (root / "cats" / f"{number}.png").touch()
    found = complete(confined, IMAGE, f"{root}/cats/")
    assert (len(found["values"]), found["total"], found["hasMore"]) == (100, 151, True)
    found = complete(confined, IMAGE, f"{root}/cats/14")
    assert (len(found["values"]), found["total"], found["hasMore"]) == (11, 11, False)


def test_each_image_argument_is_completed(confined: Client, root: Path) -> None:
    for prompt, name in (("compare_pictures", "first"), ("compare_pictures", "second"), ("extract_json", "picture")):
        found = complete(confined, ({"type": "ref/prompt", "name": prompt}, name), f"{root}/a")
        assert found["values"] == [f"{root}/a.png"]


def test_sessions_are_completed_by_their_beginning(client: Client) -> None:
    for session_id in ("user-1", "user-2", "other"):
        client.chat(session_id=session_id)
    assert complete(client, SESSION, "user")["values"] == ["user-1", "user-2"]
    assert complete(client, SESSION, "")["total"] == 3
    assert complete(client, SESSION, "User")["values"] == []


def test_models_with_a_card_are_completed(make_client: Callable[..., Client], tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    client = make_client(VLLM_MODEL_NAME=str(tmp_path))
    assert complete(client, MODEL, "")["values"] == [str(tmp_path), "demo-vlm"]
    assert complete(client, MODEL, "demo")["values"] == ["demo-vlm"]


@pytest.mark.parametrize(("typed", "found"), [("ger", ["German"]), ("GER", ["German"]), ("x", [])])
def test_languages_are_completed_in_any_case(client: Client, typed: str, found: list[str]) -> None:
    what = ({"type": "ref/prompt", "name": "describe_picture"}, "language")
    assert complete(client, what, typed)["values"] == found
