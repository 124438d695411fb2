"""Files and folders, with descriptors and as on Windows."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from operating_system import files, folders
from operating_system.files import PathChanged, open_for_reading, real_path
from operating_system.folders import Folder
from tests import foreign_calls

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["linux", "darwin"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system whose open files have a path that can be found."""
    monkeypatch.setattr(sys, "platform", request.param)
    return str(request.param)


def test_path_of_an_open_file_has_no_links(system: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    descriptor = open_for_reading(str(tmp_path / "link"))
    try:
        assert real_path(descriptor, str(tmp_path / "link")) == str(tmp_path.resolve() / "file")
    finally:
        os.close(descriptor)


def test_path_that_means_another_file_by_now_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    (tmp_path / "file").touch()
    (tmp_path / "secret").touch()
    descriptor = open_for_reading(str(tmp_path / "secret"))
    try:
        (tmp_path / "secret").unlink()
        (tmp_path / "secret").symlink_to("file")
        with pytest.raises(PathChanged):
            real_path(descriptor, str(tmp_path / "secret"))
    finally:
        os.close(descriptor)


def test_descriptors_are_not_inherited(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with folders.opened(str(tmp_path)) as folder:
        descriptors = [open_for_reading(str(tmp_path / "file")), folder.create("new", 0o600)]
    assert not any(map(os.get_inheritable, descriptors))
    for descriptor in descriptors:
        os.close(descriptor)


LOCKS = """
import sys
sys.path.insert(0, sys.argv[1])
from operating_system.folders import locked
with locked(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_holds_the_lock_of_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOCKS, str(ROOT), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.communicate(timeout=0.3)
            first.communicate()
            assert second.communicate(timeout=30)[0] == b"locked\n"
    with folders.locked(str(tmp_path)):
        assert os.listdir(tmp_path) == []


@pytest.fixture(params=["descriptor", "path"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """An open folder, with a descriptor or by its path as on Windows."""
    if request.param == "path":
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(os, "rename", foreign_calls.rename)
    with folders.opened(str(tmp_path)) as opened:
        yield opened


def write(folder: Folder, name: str, data: bytes = b"data") -> None:
    with os.fdopen(folder.create(name, 0o600), "wb") as file:
        file.write(data)


def test_files_of_a_folder(folder: Folder, tmp_path: Path) -> None:
    write(folder, "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        folder.create("a", 0o600)
    folder.link("a", "b")
    with pytest.raises(FileExistsError):
        folder.link("a", "b")
    with pytest.raises(FileExistsError):
        folder.rename_without_replacing("a", "b")
    folder.rename_without_replacing("a", "c")
    write(folder, "d")
    folder.replace("d", "b")
    folder.remove("c")
    assert [entry.name for entry in folder.entries()] == ["b"]
    assert folder.real_path() == str(tmp_path.resolve())
    folder.remove("b")
    assert os.listdir(tmp_path) == []


def test_folder_that_is_opened_can_be_moved(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with folders.opened(str(tmp_path / "a")) as folder:
        (tmp_path / "a").rename(tmp_path / "b")
        write(folder, "x")
    assert (tmp_path / "b" / "x").read_bytes() == b"data"


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_what_is_no_folder_cannot_be_opened(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("file", "nothing"):
        with pytest.raises(OSError, match=r".") as caught, folders.opened(str(tmp_path / name)):
            pass
        assert caught.value.errno in (errno.ENOTDIR, errno.ENOENT)


def test_windows_opens_files_in_binary_mode() -> None:
    program = f"import os, sys; os.O_BINARY = 0x8000; sys.path.insert(0, {str(ROOT)!r})\n"
    program += "from operating_system import files, folders; print(files._READ & 0x8000, folders._NEW & 0x8000)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["32768", "32768"]
    assert files.BINARY == 0
