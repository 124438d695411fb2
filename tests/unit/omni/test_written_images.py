"""What images and videos say of themselves, and the list of the images in a folder."""

from __future__ import annotations

import errno
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import msgspec
import pytest

from omni.errors import InvalidParameters, OutputFailed
from omni.files.metadata import MAX_TEXT_BYTES, parameters_text, with_mp4_text, with_png_text
from omni.images.parameters import ImageParameters
from omni.images.written_images import is_image_of_ours, newest_files, parameters_of, read_image
from tests.scripted_omni import png
from tests.unit.media.sample_media import video_file

MADE = ImageParameters("model", "größer ☂ \0\n", 64, 48, 4, 1.0, 7)
TEXT = msgspec.json.encode(MADE).decode()


def marked(text: str = TEXT) -> bytes:
    """An image as the server saves it."""
    return with_png_text(png(), {"parameters": text})


def written(folder: Path, name: str, at_s: float, data: bytes | None = None) -> Path:
    """A file in a folder with a time of its last change."""
    path = folder / name
    path.write_bytes(marked() if data is None else data)
    os.utime(path, (at_s, at_s))
    return path


def names(folder: Path, limit: int = 100, cursor: str | None = None) -> list[str]:
    """The names of the newest files in their order."""
    return [file.name for file in newest_files(str(folder), limit, cursor)]


# In the files


def test_image_says_how_it_was_made() -> None:
    file = io.BytesIO(marked())
    assert is_image_of_ours(file)
    assert parameters_of(file) == MADE


def test_video_says_how_it_was_made_and_is_no_image() -> None:
    file = io.BytesIO(with_mp4_text(video_file(), TEXT))
    assert parameters_text(file) == TEXT.encode()
    assert not is_image_of_ours(file)


@pytest.mark.parametrize("data", [marked(), with_mp4_text(b"\0\0\0\x08ftyp", TEXT)], ids=["PNG", "MP4"])
def test_cut_file_says_all_or_nothing(data: bytes) -> None:
    texts = {parameters_text(io.BytesIO(data[:size])) for size in range(len(data))}
    assert texts <= {None, TEXT.encode()}
    assert parameters_text(io.BytesIO(data)) == TEXT.encode()


@pytest.mark.parametrize("data", [marked(), with_mp4_text(b"\0\0\0\x08ftyp", TEXT)], ids=["PNG", "MP4"])
def test_file_with_a_wrong_byte_raises_nothing(data: bytes) -> None:
    for position in range(min(len(data), 600)):
        file = io.BytesIO(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        parameters_of(file)
        is_image_of_ours(file)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x89PNG", png(), with_png_text(png(), {}), with_png_text(png(), {"other": TEXT}), b"\0" * 1_000,
        b"\0\0\0\x08ftyp", b"\0\0\0\x08ftyp" + b"vllm-mcp-server", video_file(),
    ],
)  # fmt: skip
def test_other_files_say_nothing(data: bytes) -> None:
    assert parameters_text(io.BytesIO(data)) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", '"text"', "{" * 9, "[" * 100_000, '{"a":' * 100_000, TEXT.replace("7", '"7"'),
        TEXT.replace("7", "1e400"), TEXT.replace("model", "\\ud800", 1), TEXT.replace("64", "9" * 5_000),
    ],
)  # fmt: skip
def test_parameters_that_are_none_of_an_image_count_as_missing(text: str) -> None:
    assert parameters_of(io.BytesIO(marked(text))) is None


def test_bytes_that_are_no_text_count_as_missing() -> None:
    data = b"parameters" + bytes(5) + b'{"model":"\xff\xfe"}'
    chunk = struct.pack(">I", len(data)) + b"iTXt" + data + struct.pack(">I", zlib.crc32(b"iTXt" + data))
    whole = with_png_text(png(), {})
    begin = whole.index(b"IDAT") - 4
    assert parameters_of(io.BytesIO(whole[:begin] + chunk + whole[begin:])) is None


@pytest.mark.parametrize("size", [MAX_TEXT_BYTES + 1, 2**32 - 1])
def test_no_more_is_read_than_the_server_writes(size: int) -> None:
    whole = with_png_text(png(), {})
    begin = whole.index(b"IDAT") - 4
    file = io.BytesIO(whole[:begin] + struct.pack(">I", size) + b"iTXt" + bytes(2 << 20))
    tracemalloc.start()
    try:
        assert parameters_text(file) is None
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_longest_prompts_are_read() -> None:
    made = msgspec.structs.replace(MADE, prompt="\x01" * 20_000, negative_prompt="☂" * 20_000)
    assert parameters_of(io.BytesIO(marked(msgspec.json.encode(made).decode()))) == made


# In a folder


def test_newest_come_first_and_equal_times_are_ordered_by_name(tmp_path: Path) -> None:
    for name, at_s in (("b.png", 5), ("a.png", 5), ("old.png", -3), ("new.PNG", 9)):
        written(tmp_path, name, at_s)
    assert names(tmp_path) == ["new.PNG", "a.png", "b.png", "old.png"]
    assert names(tmp_path, 2) == ["new.PNG", "a.png"]


def test_pages_stay_the_same_while_files_come_and_go(tmp_path: Path) -> None:
    for number in range(9):
        written(tmp_path, f"{number}.png", 100 + number // 2)  # pairs have the same time
    seen: list[str] = []
    cursor = None
    while page := newest_files(str(tmp_path), 2, cursor):
        seen += [file.name for file in page]
        cursor = page[-1].cursor
        written(tmp_path, f"added {len(seen)}.png", 200 + len(seen))
        (tmp_path / page[-1].name).unlink()  # also the one that the cursor names
    assert seen == ["8.png", "6.png", "7.png", "4.png", "5.png", "2.png", "3.png", "0.png", "1.png"]


def test_only_plain_files_in_the_folder_itself_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "folder.png").mkdir(parents=True)
    written(folder / "folder.png", "inside.png", 1)
    (folder / "link.png").symlink_to(written(tmp_path, "outside.png", 1))
    (folder / "broken.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(folder / "fifo.png")
    for name in (".hidden.png", "video.mp4", "notes.txt", "line\nbreak.png", os.fsdecode(b"\xe9.png")):
        written(folder, name, 1)
    written(folder, "image.png", 1)
    assert names(folder) == ["image.png"]


def test_folder_that_is_not_there_has_no_images(tmp_path: Path) -> None:
    assert names(tmp_path / "none") == []


def test_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputFailed, match=r"file.png cannot be read: a file of that name exists\.$"):
        names(written(tmp_path, "file.png", 1))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OutputFailed, match=r"cannot be read: permission denied\.$"):
        names(tmp_path)


@pytest.mark.parametrize(
    "cursor", ["", "/", "5", "5/", "/a.png", "x/a.png", "--5/a.png", "٣/a.png", "9" * 400 + "/a.png"]
)
def test_wrong_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    with pytest.raises(InvalidParameters, match="cursor: use the next_cursor"):
        newest_files(str(tmp_path), 1, cursor)


def test_many_files_take_little_memory(tmp_path: Path) -> None:
    for number in range(3_000):
        (tmp_path / f"{number}.png").touch()
    tracemalloc.start()
    try:
        assert len(newest_files(str(tmp_path), 10)) == 10
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_file_that_is_not_ours_or_is_gone_is_no_image(tmp_path: Path) -> None:
    folder = str(tmp_path)
    ours = written(tmp_path, "ours.png", 5)
    image = read_image(str(ours), folder)
    assert image is not None
    assert (image.modified_s, image.n_bytes, image.parameters) == (5, ours.stat().st_size, MADE)
    for name, data in (("foreign.png", png()), ("video.png", with_mp4_text(video_file(), TEXT)), ("empty.png", b"")):
        assert read_image(str(written(tmp_path, name, 1, data)), folder) is None
    assert read_image(str(tmp_path / "gone.png"), folder) is None
    ours.chmod(0)
    if os.geteuid() != 0:
        assert read_image(str(ours), folder) is None


def test_file_that_becomes_a_link_is_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").symlink_to(written(tmp_path, "outside.png", 1))
    assert read_image(str(folder / "a.png"), str(folder)) is None
