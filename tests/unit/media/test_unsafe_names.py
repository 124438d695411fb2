r"""Paths that are refused by their form: those of other machines everywhere, and more on Windows.

Windows would answer `\\server\share` with the user's credentials, so no spelling may get through.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import NoReturn

import pytest

from media.errors import MediaForbidden
from media.files.file_urls import path_of_file_url, url_of_path
from media.files.folders import entries_of
from media.files.paths import open_regular_file
from media.files.unsafe_names import why_unsafe
from settings import windows_paths
from settings.windows_paths import is_foreign, local_form, paths_here

OTHER_MACHINES = [
    r"\\server\share\a.png",
    "//server/share/a.png",
    r"\/server\share\a.png",
    r"/\server/share/a.png",
    r"\\server@SSL\share\a.png",
    r"\\server@8080\DavWWWRoot\a.png",
    r"\\10.0.0.1\c$\a.png",
    r"\\fe80--1.ipv6-literal.net\share\a.png",
    r"\\server",
    "//",
    r"\\\server\share\a.png",
    "///server/share/a.png",
    r"\\?\UNC\server\share\a.png",
    r"\\?\unc\server\share\a.png",
    r"\\?\Volume{b75e2c83-0000-0000-0000-602f00000000}\a.png",
    r"\\?\GLOBALROOT\Device\Mup\server\share\a.png",
    r"//?/UNC/server/share/a.png",
    r"\\.\UNC\server\share\a.png",
    r"\\.\pipe\name",
    r"\\.\PhysicalDrive0",
    "//./C:/a.png",
    r"  \\server\share\a.png",
    "\t//server/share/a.png",
]
URLS_OF_OTHER_MACHINES = [
    "file://server/share/a.png",
    "file://server:445/share/a.png",
    "file://user@server/share/a.png",
    "file:////server/share/a.png",
    "file://///server/share/a.png",
    "file://localhost//server/share/a.png",
    r"file:\\server\share\a.png",
    r"file://\\server\share\a.png",
    r"file:///\\server\share\a.png",
    "file:///%5C%5Cserver/share/a.png",
    "file:///%5c/server/share/a.png",
    "file:///%2Fserver/share/a.png",
    "file:%2F%2Fserver/share/a.png",
    "file://%2F%2Fserver/share/a.png",
    "file:////%2Fserver/share/a.png",
    "FILE://server/share/a.png",
]


def test_every_mixture_of_separators_names_another_machine() -> None:
    for begin in itertools.product("\\/", repeat=2):
        for end in itertools.product("\\/", repeat=2):
            path = "".join(begin) + f"server{end[0]}share{end[1]}a.png"
            for on_windows in (False, True):
                assert why_unsafe(path, on_windows) is not None, path


@pytest.mark.parametrize("on_windows", [False, True])
@pytest.mark.parametrize("path", OTHER_MACHINES)
def test_paths_of_other_machines_are_refused(path: str, on_windows: bool) -> None:
    reason = why_unsafe(path, on_windows)
    assert reason is not None
    assert "another machine" in reason


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that asks the file system for anything: Windows would ask the other machine."""

    def asked(*_: object, **__: object) -> NoReturn:
        pytest.fail("the file system was asked")

    for name in ("open", "stat", "lstat", "scandir", "listdir", "readlink"):
        monkeypatch.setattr(os, name, asked)
    for name in ("lexists", "exists", "isdir", "realpath"):
        monkeypatch.setattr(os.path, name, asked)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", [path for path in OTHER_MACHINES if not is_foreign(path)])
def test_other_machines_are_not_asked(path: str) -> None:
    for allowed in (None, ["/"]):
        with pytest.raises(MediaForbidden, match="another machine"):
            open_regular_file(path, allowed)
        with pytest.raises(MediaForbidden, match="not a valid folder name"):
            entries_of(path, allowed)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("url", URLS_OF_OTHER_MACHINES)
def test_urls_of_other_machines_are_refused(url: str) -> None:
    with pytest.raises(MediaForbidden, match=r"another machine|no absolute path"):
        open_regular_file(path_of_file_url(url), None)


ON_WINDOWS_ALONE = [
    ("C:a.png", "relative to a drive"),
    ("c:", "relative to a drive"),
    (r"C:\a.png:stream", "stream"),
    (r"C:\a.png::$DATA", "stream"),
    ("a.png:stream", "stream"),
    (r"C:\folder:stream\a.png", "stream"),
    ("NUL", "device"),
    ("nul.png", "device"),
    ("NUL:", "stream"),
    (r"C:\Users\me\CON", "device"),
    ("C:/Users/me/com1.png", "device"),
    (r"C:\COM¹.png", "device"),
    (r"C:\lpt9 .png", "device"),
    (r"C:\aux\a.png", "device"),
    ("CONIN$", "device"),
    ("conout$.png", "device"),
    (r"\??\UNC\server\share\a.png", "character"),
    (r"\??\C:\a.png", "character"),
    (r"C:\a*.png", "character"),
    ("C:\\a\x01.png", "character"),
    (r"C:\a|b.png", "character"),
]


@pytest.mark.parametrize(("path", "words"), ON_WINDOWS_ALONE)
def test_names_that_windows_reads_differently_are_refused_there(path: str, words: str) -> None:
    reason = why_unsafe(path, on_windows=True)
    assert reason is not None
    assert words in reason
    assert why_unsafe(path, on_windows=False) is None


@pytest.mark.parametrize(
    "path",
    [
        r"C:\Users\me\a b.png",
        "C:/Users/me/ä.png",
        "a.png",
        r"folder\a.png",
        "~/a.png",
        r"~\a.png",
        r"\folder\a.png",
        r"C:\null.png",
        r"C:\com10.png",
        r"C:\console\a.png",
        r"C:\a..b\.c",
        "C:\\",
    ],
)
def test_usual_paths_of_windows_are_safe(path: str) -> None:
    assert why_unsafe(path, on_windows=True) is None


@pytest.fixture
def _on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_paths, "_ON_WINDOWS", True)


@pytest.mark.usefixtures("_on_windows")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (r"C:\Users\me\a.png", r"C:\Users\me\a.png"),
        ("C:/Users/me/a.png", "C:/Users/me/a.png"),
        ("/C:/Users/me/a.png", r"C:\Users/me/a.png"),
        ("/c/Users/me/a.png", r"c:\Users/me/a.png"),
        ("/mnt/c/Users/me/a.png", r"c:\Users/me/a.png"),
        ("/cygdrive/c/Users/me/a.png", r"c:\Users/me/a.png"),
        (r"\\?\C:\Users\me\a.png", r"C:\Users\me\a.png"),
        (r"\\?\UNC\server\share\a.png", r"\\?\UNC\server\share\a.png"),
        (r"\\?\C:a.png", r"\\?\C:a.png"),
        (r"\\wsl.localhost\Ubuntu\a.png", r"\\wsl.localhost\Ubuntu\a.png"),
        ("a.png", "a.png"),
        ("/folder/a.png", "/folder/a.png"),
    ],
)
def test_forms_of_other_shells_are_drives_on_windows(path: str, expected: str) -> None:
    assert local_form(path) == expected
    assert not is_foreign(path)
    assert paths_here(path) == []


@pytest.mark.usefixtures("_on_windows")
@pytest.mark.parametrize("path", [*OTHER_MACHINES, r"\\wsl.localhost\Ubuntu\a.png", "//wsl$/Ubuntu/a.png"])
def test_no_other_form_leads_to_another_machine(path: str) -> None:
    assert why_unsafe(local_form(path), on_windows=True) is not None


@pytest.mark.usefixtures("_on_windows")
@pytest.mark.parametrize(
    "url",
    [*URLS_OF_OTHER_MACHINES, "file://wsl.localhost/Ubuntu/a.png", "file:///C:/a.png:stream", "file:///C%3Aa.png"],
)
def test_no_url_leads_to_another_machine_or_stream(url: str) -> None:
    try:
        path = path_of_file_url(url)
    except MediaForbidden:
        return
    assert why_unsafe(local_form(path), on_windows=True) is not None


def test_path_relative_to_nothing_is_not_changed_elsewhere(tmp_path: Path) -> None:
    assert local_form("/c/a.png") == "/c/a.png"
    assert local_form(r"\\?\C:\a.png") == r"\\?\C:\a.png"


@pytest.mark.parametrize(
    ("path", "on_windows", "url"),
    [
        ("/home/me/a b#é.png", False, "file:///home/me/a%20b%23%C3%A9.png"),
        ("/home/me/a\udcff.png", False, "file:///home/me/a%FF.png"),
        (r"C:\Users\me\a b#é.png", True, "file:///C:/Users/me/a%20b%23%C3%A9.png"),
        ("C:/Users/me/100%.png", True, "file:///C:/Users/me/100%25.png"),
        (r"\\nas\out\a.png", True, "file://nas/out/a.png"),
    ],
)
def test_url_of_a_path(path: str, on_windows: bool, url: str) -> None:
    assert url_of_path(path, on_windows) == url


@pytest.mark.parametrize("path", ["/home/me/a b.png", "/a%20b.png", "/é?.png"])
def test_url_leads_back_to_its_path(path: str) -> None:
    assert path_of_file_url(url_of_path(path, on_windows=False)) == path


@pytest.mark.parametrize("path", [r"C:\Users\me\a b.png", r"d:\é#.png"])
def test_url_of_windows_leads_back_to_its_path(path: str) -> None:
    assert path_of_file_url(url_of_path(path, on_windows=True)) == path.replace("\\", "/")
