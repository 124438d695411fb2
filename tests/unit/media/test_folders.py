"""Folders: listed only inside of the allowed ones, and without what may not be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from media.errors import MediaError, MediaForbidden, MediaNotFound
from media.files.folders import Entry, entries_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder; its sibling has a similar name."""
    (tmp_path / "media" / "sub").mkdir(parents=True)
    (tmp_path / "media" / "cat.png").write_bytes(b"cat")
    (tmp_path / "media-evil").mkdir()
    (tmp_path / "media-evil" / "cat.png").write_bytes(b"evil")
    return tmp_path / "media"


def names(folder: object, *allowed: object) -> list[str]:
    return [entry.name for entry in entries_of(str(folder), [str(path) for path in allowed] or None)]


def test_files_and_folders_are_told_with_their_sizes(root: Path) -> None:
    assert entries_of(str(root), [str(root)]) == [Entry("cat.png", False, 3), Entry("sub", True, 0)]
    assert entries_of(str(root / "sub"), [str(root)]) == []


def test_nothing_is_listed_when_no_folder_is_allowed(root: Path) -> None:
    with pytest.raises(MediaForbidden):
        entries_of(str(root), ())


def test_any_folder_is_listed_when_none_is_named(root: Path) -> None:
    assert names(root) == ["cat.png", "sub"]


def test_links_are_told_where_they_stay_inside(root: Path, tmp_path: Path) -> None:
    (root / "inside.png").symlink_to("cat.png")
    (root / "outside.png").symlink_to(tmp_path / "media-evil" / "cat.png")
    (root / "evil").symlink_to(tmp_path / "media-evil")
    (root / "nowhere.png").symlink_to("missing")
    (root / "loop").symlink_to("loop")
    assert names(root, root) == ["cat.png", "inside.png", "sub"]
    (tmp_path / "alias").symlink_to(root)
    assert "inside.png" in names(tmp_path / "alias", tmp_path / "alias")


def test_what_is_neither_file_nor_folder_nor_text_is_left_out(root: Path) -> None:
    os.mkfifo(root / "fifo.png")
    (root / ".hidden.png").touch()
    (root / "new\nline.png").touch()
    os.close(os.open(os.fsencode(root) + b"/\xff.png", os.O_CREAT | os.O_WRONLY))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.png"))
        assert names(root, root) == ["cat.png", "sub"]


@pytest.mark.parametrize(
    "folder", ["../media-evil", "..", "sub/../..", "../missing", "cat.png", "missing", "", "\0", "x" * 10_000]
)
def test_folder_outside_or_missing_is_refused_in_the_same_words(root: Path, folder: str) -> None:
    path = f"{root}/{folder}" if folder else "media"
    with pytest.raises(MediaForbidden):
        entries_of(path, [str(root)])


def test_link_to_a_folder_outside_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "evil").symlink_to(tmp_path / "media-evil")
    with pytest.raises(MediaForbidden):
        names(root / "evil", root)


@pytest.mark.parametrize("folder", ["/proc/self", "/dev", "/sys"])
def test_system_folders_are_refused_even_when_all_are_allowed(folder: str) -> None:
    with pytest.raises(MediaForbidden):
        names(folder)
    with pytest.raises(MediaForbidden):
        names(folder, "/")


def test_missing_folder_is_said_to_be_missing_where_all_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound, match="missing"):
        names(tmp_path / "missing")


def test_relative_and_home_folders_are_no_folders_names() -> None:
    for folder in ("media", "~", "~/media", "./"):
        with pytest.raises(MediaError):
            names(folder)
