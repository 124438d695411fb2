from __future__ import annotations

import io
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omni import files
from omni.errors import InvalidParameters, OutputFailed
from omni.files import FOLDER, OutputFolder, automatic_name, checked_name
from omni.png import is_ours, with_text
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


def test_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    folder = OutputFolder(str(tmp_path))
    assert [os.path.basename(folder.save(b"data", "x.png")) for _ in range(2)] == ["x.png", "x_2.png"]
    assert sorted(os.listdir(tmp_path)) == ["x.png", "x_2.png"]


def test_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    for path in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(OutputFailed, match="there is a file of that name in the way"):
            OutputFolder(str(path)).check()


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_write = files._write

    def run_out(folder: int, name: str, data: bytes) -> None:
        really_write(folder, name, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write", run_out)
    with pytest.raises(OutputFailed, match=r"the disk is full.*OMNI_OUTPUT_DIR"):
        OutputFolder(str(tmp_path)).save(b"data", "x.png")
    assert os.listdir(tmp_path) == []


def test_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputFailed, match="it may not be written"):
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


def test_text_travels_with_a_picture_that_stays_the_same() -> None:
    data = png((5, 3), seed=77)
    marked = with_text(data, {"parameters": '{"prompt":"größer ☂"}'})
    assert is_ours(io.BytesIO(marked))
    assert not is_ours(io.BytesIO(data))
    assert not is_ours(io.BytesIO(b""))
    with Image.open(io.BytesIO(marked)) as image:
        text: dict[str, Any] = image.text  # type: ignore[attr-defined]
        assert text == {"Software": "vllm-mcp-server", "parameters": '{"prompt":"größer ☂"}'}
        assert image.tobytes() == Image.open(io.BytesIO(data)).tobytes()
