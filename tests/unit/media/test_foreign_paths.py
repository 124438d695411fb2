"""Paths as Windows, WSL and Git Bash write them, and names that only look like the one that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from media.errors import MediaForbidden, MediaNotFound
from media.files.file_urls import path_of_file_url
from media.files.paths import read_file
from settings import windows_paths
from settings.windows_paths import is_foreign, paths_here

NARROW = "Screenshot 9.41\u202fPM.png"


def read(path: str, *allowed: Path) -> bytes:
    return read_file(path, [str(folder) for folder in allowed] or None, 1_000)


@pytest.fixture
def drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where drives are mounted, with an image on C:."""
    folder = tmp_path / "mnt" / "c" / "Users" / "me"
    folder.mkdir(parents=True)
    (folder / "a b.png").write_bytes(b"here")
    monkeypatch.setattr(windows_paths, "_MOUNTS", (f"{tmp_path}/mnt/", f"{tmp_path}/"))
    return tmp_path / "mnt"


@pytest.mark.parametrize(
    "path",
    [
        r"C:\Users\me\a b.png",
        r"c:\Users\me\a b.png",
        "C:/Users/me/a b.png",
        r"C:\Users/me\a b.png",
        "/C:/Users/me/a b.png",
        r"\\?\C:\Users\me\a b.png",
        "/c/Users/me/a b.png",
        "/cygdrive/c/Users/me/a b.png",
        "/mnt/c/Users/me/a b.png",
    ],
)
def test_windows_path_means_the_file_of_wsl_where_it_is_there(drives: Path, path: str) -> None:
    assert read(path) == b"here"
    assert read(path, drives) == b"here"


@pytest.mark.parametrize(
    "url",
    [
        "file:///C:/Users/me/a%20b.png",
        "file:///c%3A/Users/me/a%20b.png",
        "file://C:/Users/me/a b.png",
        "file:C:/Users/me/a b.png",
        r"file:///C:\Users\me\a b.png",
        r"file:C:\Users\me\a b.png",
    ],
)
def test_file_url_of_windows_likewise(drives: Path, url: str) -> None:
    assert read(path_of_file_url(url)) == b"here"


@pytest.mark.parametrize(
    "form",
    [
        r"\\wsl.localhost\Ubuntu{windows}",
        r"\\wsl$\Ubuntu-24.04{windows}",
        r"\\WSL$\Ubuntu{windows}",
        "//wsl.localhost/Ubuntu{path}",
        r"\\?\UNC\wsl.localhost\Ubuntu{windows}",
        "file://wsl.localhost/Ubuntu{path}",
        "file://wsl%24/Ubuntu{path}",
        "file:////wsl$/Ubuntu{path}",
        "file://///wsl.localhost/Ubuntu{path}",
    ],
)
def test_path_through_wsl_is_this_machines(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.png").write_bytes(b"here")
    path = str(tmp_path / "a.png")
    given = form.format(path=path, windows=path.replace("/", "\\"))
    assert read(path_of_file_url(given) if given.startswith("file:") else given) == b"here"


@pytest.mark.parametrize("path", [r"C:\Users\me\b.png", "file:///C:/Users/me/b.png", r"\\?\C:\Users\me\b.png"])
def test_windows_path_to_nothing_says_what_it_would_be_here(drives: Path, path: str) -> None:
    given = path_of_file_url(path) if path.startswith("file:") else path
    with pytest.raises(MediaNotFound, match=r"Windows path.*WSL.*mnt/c/Users/me/b\.png"):
        read(given)


def test_windows_path_outside_of_the_allowed_folders_is_called_one(drives: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaForbidden, match=r"outside the folders.*Windows path"):
        read(r"C:\Users\me\b.png", tmp_path / "other")


def test_path_of_git_bash_to_nothing_says_so(drives: Path) -> None:
    with pytest.raises(MediaNotFound, match=r"mnt/q/b\.png.*Git Bash"):
        read("/q/b.png")


@pytest.mark.parametrize("path", [r"C:\Users\me\a b.png", r"C:\nothing.png", "/c/Users/me/a b.png", "/c/nothing.png"])
def test_folders_that_are_allowed_hold_for_them_too(drives: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(MediaForbidden, match="outside the folders") as caught:
        read(path, tmp_path / "other")
    assert str(drives) not in str(caught.value)


@pytest.mark.parametrize("path", [r"\\server\share\a.png", r"\\?\UNC\server\share\a.png"])
def test_other_machines_are_not_asked(path: str) -> None:
    with pytest.raises(MediaForbidden, match="another machine"):
        read(path)


@pytest.mark.parametrize("url", ["file://server/share/a.png", r"file:///a\b.png", "file:////server/a.png"])
def test_urls_of_other_machines_are_refused(url: str) -> None:
    with pytest.raises(MediaForbidden, match="another machine"):
        path_of_file_url(url)


@pytest.mark.parametrize("path", ["/home/me/a.png", "a.png", "C:a.png", "~/a.png", "/ab/c.png", "1:\\a"])
def test_other_paths_mean_themselves(path: str) -> None:
    assert paths_here(path) == []
    assert not is_foreign(path)


def test_file_that_is_there_wins_over_every_other_meaning(drives: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    assert paths_here("/c/a.png") == [f"{drives}/c/a.png", f"{tmp_path}/c/a.png"]


# Names that look alike


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        (NARROW, "Screenshot 9.41 PM.png", ["U+202F (NARROW NO-BREAK SPACE)", r"9.41\u202fPM.png"]),
        ("a\u00a0b.png", "a b.png", ["U+00A0 (NO-BREAK SPACE)"]),
        ("a\u200bb.png", "ab.png", ["U+200B (ZERO WIDTH SPACE)"]),
        ("a b.png", "a\u202fb.png", ["different spaces"]),
        ("Cafe\u0301.png", "Caf\u00e9.png", ["(NFD)", r"Cafe\u0301.png"]),
        ("Caf\u00e9.png", "Cafe\u0301.png", ["(NFC)", r"Caf\u00e9.png"]),
        ("\u1112\u1161\u11ab.png", "\ud55c.png", ["(NFD)"]),
        ("a.png ", "a.png", ["different spaces", "as JSON"]),
    ],
)
def test_file_whose_name_only_looks_like_it_is_named(tmp_path: Path, there: str, asked: str, words: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / there).write_bytes(b"x")
    for allowed in ([], [tmp_path]):
        with pytest.raises(MediaNotFound, match="one whose name looks the same") as caught:
            read(str(tmp_path / "folder" / asked), *allowed)
        for word in words:
            assert word in str(caught.value)


def test_folders_that_only_look_like_it_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "Bu\u0308cher").mkdir()
    (tmp_path / "Bu\u0308cher" / NARROW).write_bytes(b"x")
    with pytest.raises(MediaNotFound, match=r"u\\u0308cher.*\\u202fPM"):
        read(str(tmp_path / "B\u00fccher" / "Screenshot 9.41 PM.png"))


def test_nothing_is_told_of_folders_that_are_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / NARROW).write_bytes(b"x")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / NARROW).symlink_to(tmp_path / "secret" / NARROW)
    (tmp_path / "media" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(MediaForbidden):
        read(str(tmp_path / "secret" / "Screenshot 9.41 PM.png"), tmp_path / "media")
    with pytest.raises(MediaForbidden):
        read(str(tmp_path / "media" / "link" / "Screenshot 9.41 PM.png"), tmp_path / "media")
    with pytest.raises(MediaNotFound) as caught:
        read(str(tmp_path / "media" / "Screenshot 9.41 PM.png"), tmp_path / "media")
    assert "looks the same" not in str(caught.value)


def test_another_name_is_not_similar(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "A.png").write_bytes(b"x")
    with pytest.raises(MediaNotFound) as caught:
        read(str(tmp_path / "a.png"))
    assert str(caught.value) == f'There is no file "{tmp_path}/a.png".'
