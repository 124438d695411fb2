"""Text files, and telling files apart by their bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from media.file_type import file_type_of
from media.text import TextReader
from tests.decoder import DECODER
from tests.unit.handlers.tool_client import make_image
from tests.unit.media.sample_media import audio_file, video_file


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("Grüße…\n".encode(), "Grüße…\n"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("sixteen".encode("utf-16"), "sixteen"),
    ],
)
def test_text_is_read_from_allowed_folders(data: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert TextReader((str(tmp_path),), 1000).read(str(tmp_path / "a.txt")) == text


def test_nothing_is_read_where_no_folder_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_DIRS, which is not set"):
        TextReader((), 1000).read(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../outside.txt", MediaForbidden),
        ("link.txt", MediaForbidden),
        ("none.txt", MediaNotFound),
        ("large.txt", MediaTooLarge),
        ("binary.txt", MediaUnreadable),
        ("nul.txt", MediaUnreadable),
        ("empty.txt", MediaUnreadable),
        (".", MediaUnreadable),
    ],
)
def test_what_is_no_text_in_there_is_refused(name: str, error: type[MediaError], tmp_path: Path) -> None:
    folder = tmp_path / "allowed"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("secret words")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "large.txt").write_text("x" * 1001)
    (folder / "binary.txt").write_bytes(b"\xff\x00\xfe")
    (folder / "nul.txt").write_bytes(b"a\0b")
    (folder / "empty.txt").touch()
    with pytest.raises(error) as caught:
        TextReader((str(folder),), 1000).read(str(folder / name))
    assert "secret words" not in str(caught.value)


def test_files_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    contents = {
        "image": make_image("red"),
        "audio": audio_file(seconds=0.3),
        "video": video_file(frames=4),
        "other": b"some words",
    }
    for kind, data in contents.items():
        path = tmp_path / f"{kind}.bin"
        path.write_bytes(data)
        facts = file_type_of(str(path), None, 1 << 20, DECODER)
        assert (facts.kind, facts.n_bytes) == (kind, len(data))


def test_large_container_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video_file(frames=4))
    with pytest.raises(MediaTooLarge):
        file_type_of(str(tmp_path / "a.mp4"), None, 100, DECODER)


def test_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaUnreadable, match="FIFO"):
        file_type_of(str(tmp_path / "pipe"), None, 100, DECODER)
