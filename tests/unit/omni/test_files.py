from __future__ import annotations

import errno
import io
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omni.errors import InvalidParameters, OutputFailed
from omni.files import atomic_file
from omni.files.metadata import is_ours, with_png_text
from omni.files.output_folder import FOLDER, OutputFolder, automatic_name, checked_name, shown_path
from operating_system import folders
from operating_system.folders import Folder
from tests.scripted_omni import png


def test_file_is_there_whole_with_nothing_beside_it(tmp_path: Path) -> None:
    path = OutputFolder(str(tmp_path / "a" / "b")).save(b"data", "x.png")
    assert path == str(tmp_path / "a" / "b" / "x.png")
    assert Path(path).read_bytes() == b"data"
    assert os.listdir(tmp_path / "a" / "b") == ["x.png"]


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    paths = [folder.save(str(number).encode(), "x.png") for number in range(3)]
    assert [os.path.basename(path) for path in paths] == ["x.png", "x_2.png", "x_3.png"]
    assert [Path(path).read_bytes() for path in paths] == [b"0", b"1", b"2"]


def test_many_threads_get_files_of_their_own(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    threads = [threading.Thread(target=folder.save, args=(str(n).encode(), "x.png")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {str(n).encode() for n in range(20)}


def test_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").symlink_to(tmp_path / "elsewhere")
    path = OutputFolder(str(tmp_path / "out")).save(b"data", "x.png")
    assert os.path.basename(path) == "x_2.png"
    assert not (tmp_path / "elsewhere").exists()


WAYS = ("link", "rename_without_replacing")
ERRORS = [errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EIO, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK]


def refuses(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("n_ways", [1, 2])
def test_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, n_ways: int
) -> None:
    for way in WAYS[:n_ways]:
        monkeypatch.setattr(Folder, way, refuses(number))
    folder = OutputFolder(str(tmp_path))
    folder.check()
    assert [os.path.basename(folder.save(b"data", "x.png")) for _ in range(3)] == ["x.png", "x_2.png", "x_3.png"]
    assert sorted(os.listdir(tmp_path)) == ["x.png", "x_2.png", "x_3.png"]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"data"}


def test_file_system_on_which_nothing_can_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in WAYS:
        monkeypatch.setattr(Folder, way, refuses(errno.ENOSYS))
    monkeypatch.setattr(os, "replace", refuses(errno.ENOTSUP))
    (tmp_path / "x.png").write_bytes(b"before")
    path = OutputFolder(str(tmp_path)).save(b"data", "x.png")
    assert (os.path.basename(path), Path(path).read_bytes()) == ("x_2.png", b"data")
    assert (tmp_path / "x.png").read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["x.png", "x_2.png"]


def test_c_library_without_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "link", refuses(errno.EPERM))
    monkeypatch.setattr(folders, "_rename_without_replacing", lambda: (None, 0))
    assert OutputFolder(str(tmp_path)).save(b"data", "x.png") == str(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"), [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755), (0o660, 0o770), (0o666, 0o777)]
)
@pytest.mark.parametrize("n_ways", [0, 2])
def test_rights_of_files_and_of_folders_that_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_ways: int, file_mode: int, folder_mode: int
) -> None:
    for way in WAYS[:n_ways]:
        monkeypatch.setattr(Folder, way, refuses(errno.EPERM))
    tmp_path.chmod(0o711)
    before = os.umask(0o027)
    try:
        path = Path(OutputFolder(str(tmp_path / "a" / "b"), file_mode).save(b"data", "x.png"))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, *path.parents[:3])] == [
        file_mode,
        folder_mode,
        folder_mode,
        0o711,
    ]


def test_files_are_private_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    path = Path(OutputFolder(str(tmp_path / "out")).save(b"data", "x.png"))
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]


def test_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path / "out"))
    os.unlink(folder.save(b"data", "x.png"))
    os.rmdir(tmp_path / "out")
    folder.check()
    assert Path(folder.save(b"data", "x.png")).read_bytes() == b"data"


def test_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = OutputFolder(os.fsdecode(os.fsencode(tmp_path) + b"/out\xff"))
    path = folder.save(b"data", "x.png")
    assert os.fsencode(path) == os.fsencode(tmp_path) + b"/out\xff/x.png"
    assert shown_path(path) == f"{tmp_path}/out\ufffd/x.png"


def test_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    for path in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(OutputFailed, match="a file of that name exists"):
            OutputFolder(str(path)).check()


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: Full())
    folder = OutputFolder(str(tmp_path))
    for write in (folder.check, lambda: folder.save(b"data", "x.png")):
        with pytest.raises(OutputFailed, match=r"the disk is full.*OMNI_OUTPUT_DIR"):
            write()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "its file system is read-only"),
        (errno.ENOTCONN, "is disconnected"),
        (errno.EIO, "disk or network drive has failed"),
        (errno.EBADMSG, r"the system reports: Bad message"),
    ],
)
def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str) -> None:
    monkeypatch.setattr(atomic_file, "_write_new", refuses(number))
    with pytest.raises(OutputFailed, match=text):
        OutputFolder(str(tmp_path)).check()


def test_default_folder_is_in_the_working_folder_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert OutputFolder(None).path == str(tmp_path / FOLDER)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert OutputFolder(None).path == f"/home/someone/{FOLDER}"
    assert OutputFolder("rel").path == str(tmp_path / "rel")


def test_automatic_names_have_the_time_and_a_hash_of_the_prompt() -> None:
    name = automatic_name("img", "A cat", ".png")
    assert re.fullmatch(r"img_\d{8}_\d{6}_[0-9a-f]{6}\.png", name)
    assert automatic_name("img", "A cat", ".png")[-10:] == name[-10:]
    assert automatic_name("img", "A dog", ".png")[-10:] != name[-10:]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cat", "cat.png"),
        ("cat.png", "cat.png"),
        ("cat.PNG", "cat.PNG"),
        ("v1.2", "v1.2.png"),
        ("Größe 1", "Größe 1.png"),
        ("a" * 196, "a" * 196 + ".png"),
    ],
)
def test_names_get_the_extension(given: str, name: str) -> None:
    assert checked_name(given, ".png") == name


@pytest.mark.parametrize(
    "name",
    [
        "../x", "a/b", "/abs", "a\\b", "..", ".", ".hidden", "-rf", "~x", " x", "x ", "a\0b", "a\nb", "x" * 300, "con",
        "NUL.png", "lpt1.txt", "a:b", "a|b", 'a"b', "x.jpg", "x.mp4", "...", "\ud800", "a\u202eb",
    ],
)  # fmt: skip
def test_names_that_are_no_plain_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameters, match="filename"):
        checked_name(name, ".png")


def test_text_travels_with_an_image_that_stays_the_same() -> None:
    data = png((5, 3), seed=77)
    marked = with_png_text(data, {"parameters": '{"prompt":"größer ☂"}'})
    assert is_ours(io.BytesIO(marked))
    assert not is_ours(io.BytesIO(data))
    assert not is_ours(io.BytesIO(b""))
    with Image.open(io.BytesIO(marked)) as image:
        text: dict[str, Any] = image.text  # type: ignore[attr-defined]
        assert text == {"Software": "vllm-mcp-server", "parameters": '{"prompt":"größer ☂"}'}
        assert image.tobytes() == Image.open(io.BytesIO(data)).tobytes()
