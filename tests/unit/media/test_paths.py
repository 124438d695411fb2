"""Files: only regular ones, only inside the allowed folders, decided on the opened descriptor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from media.files.file_urls import path_of_file_url
from media.files.paths import open_regular_file, read_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder with a file; its sibling has a similar name, and a secret lies next to both."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "cat.png").write_bytes(b"cat")
    (tmp_path / "media-evil").mkdir()
    (tmp_path / "media-evil" / "cat.png").write_bytes(b"evil")
    (tmp_path / "secret.png").write_bytes(b"secret")
    return tmp_path / "media"


def read(path: object, *allowed: object) -> bytes:
    return read_file(str(path), [str(folder) for folder in allowed] or None, 1_000)


@pytest.mark.parametrize("name", ["cat.png", "missing.png"])
def test_nothing_is_read_when_no_folder_is_allowed(root: Path, name: str) -> None:
    with pytest.raises(MediaForbidden, match=r"VLLM_ALLOWED_MEDIA_DIRS.*base64"):
        read_file(str(root / name), (), 1_000)


def test_any_folder_is_read_when_none_is_named(root: Path) -> None:
    assert read(root / "cat.png") == b"cat"


def test_file_in_an_allowed_folder_is_read(root: Path, tmp_path: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "dog.png").write_bytes(b"dog")
    assert read(root / "sub" / "dog.png", tmp_path / "other", f"{root}/") == b"dog"


def test_dots_that_stay_inside_are_harmless(root: Path) -> None:
    assert read(f"{root}/../media/./cat.png", root) == b"cat"


def test_link_inside_an_allowed_folder_is_followed(root: Path) -> None:
    (root / "link.png").symlink_to("cat.png")
    assert read(root / "link.png", root) == b"cat"


def test_allowed_folder_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert read(tmp_path / "alias" / "cat.png", tmp_path / "alias") == b"cat"


@pytest.mark.parametrize("path", ["../secret.png", "../media-evil/cat.png", "sub/../../secret.png", "../missing.png"])
def test_path_outside_of_the_allowed_folders_is_refused(root: Path, path: str) -> None:
    (root / "sub").mkdir()
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_DIRS"):
        read(f"{root}/{path}", root)


def test_link_that_leads_outside_is_refused(root: Path) -> None:
    (root / "link.png").symlink_to("../secret.png")
    with pytest.raises(MediaForbidden, match="outside"):
        read(root / "link.png", root)


def test_error_for_a_path_outside_does_not_tell_what_is_there(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "unreadable").touch(mode=0)
    messages = set()
    for name in ("secret.png", "missing.png", "media-evil", "fifo", "unreadable", "secret.png/below"):
        with pytest.raises(MediaForbidden) as caught:
            read(tmp_path / name, root)
        messages.add(str(caught.value).replace(name, "NAME"))
    assert len(messages) == 1


def test_link_swapped_while_opening_does_not_escape(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = root / "link.png"
    link.symlink_to("cat.png")
    really_open = os.open

    def swap_and_open(path: str, flags: int) -> int:
        link.unlink()
        link.symlink_to("../secret.png")
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", swap_and_open)
    with pytest.raises(MediaForbidden, match="outside"):
        read(link, root)


def test_link_swapped_after_opening_changes_nothing(root: Path) -> None:
    link = root / "link.png"
    link.symlink_to("cat.png")
    with open_regular_file(str(link), [str(root)]) as file:
        link.unlink()
        link.symlink_to("../secret.png")
        assert file.read() == b"cat"


def test_folder_is_not_a_file(root: Path) -> None:
    with pytest.raises(MediaUnreadable, match="is a folder"):
        read(root)


def test_fifo_without_a_writer_does_not_hang(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(MediaUnreadable, match="is a FIFO"):
        read(root / "fifo", root)


def test_socket_is_not_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(MediaUnreadable, match="is a socket"):
            read(root / "socket", root)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/stdin"])
def test_devices_are_not_read(device: str) -> None:
    with pytest.raises(MediaError, match=r"not a file|a system file|no file"):
        read(device)


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/maps", "/dev/../proc/version", "/sys/kernel/notes"])
def test_files_of_the_kernel_are_not_read(path: str) -> None:
    if not os.access(path, os.R_OK):
        pytest.skip(f"this machine has no {path}")
    with pytest.raises(MediaForbidden, match="/proc, /sys or /dev"):
        read(path)


def test_link_to_a_file_of_the_kernel_is_not_read(root: Path) -> None:
    (root / "link.png").symlink_to("/proc/self/environ")
    with pytest.raises(MediaForbidden, match="/proc"):
        read(root / "link.png")


def test_unreadable_file_is_forbidden(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "no", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MediaForbidden, match="may not read"):
        read(root / "cat.png", root)


def test_empty_file_is_named_as_such(root: Path) -> None:
    (root / "empty.png").touch()
    with pytest.raises(MediaUnreadable, match="is empty"):
        read(root / "empty.png")


def test_large_file_is_refused_by_its_size_without_reading(root: Path) -> None:
    with open(root / "sparse.png", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_BYTES"):
        read(root / "sparse.png")


def test_growing_file_is_read_no_further_than_the_limit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing = root / "growing.png"
    growing.write_bytes(b"x")
    really_open = os.fdopen

    def grow_and_open(descriptor: int, mode: str) -> object:
        file = really_open(descriptor, mode)
        really_fstat = os.fstat(descriptor)
        monkeypatch.setattr(os, "fstat", lambda _: really_fstat)
        growing.write_bytes(b"x" * 5_000)
        return file

    monkeypatch.setattr(os, "fdopen", grow_and_open)
    with pytest.raises(MediaTooLarge):
        read(growing)


def test_missing_file_is_named_as_the_caller_wrote_it() -> None:
    with pytest.raises(MediaNotFound, match=r'There is no file "/no/such/cat\.png"'):
        read("/no/such/cat.png")


def test_relative_path_counts_from_the_working_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert read("cat.png", root) == b"cat"
    with pytest.raises(MediaNotFound, match=f"{root}/dog.png.* working folder"):
        read("dog.png")


def test_tilde_is_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert read("~/cat.png", root) == b"cat"


@pytest.mark.parametrize("name", ["cat.png ", "'cat.png'", '"cat.png"', "CAT.PNG", "cat.png/", "%63at.png", "x" * 300])
def test_names_are_taken_to_the_letter(root: Path, name: str) -> None:
    with pytest.raises(MediaNotFound):
        read(f"{root}/{name}", root)


@pytest.mark.parametrize("path", ["", " ", "cat\0.png", "\ud800.png", "\\\\server\\share\\cat.png"])
def test_impossible_names_are_refused(path: str) -> None:
    with pytest.raises(MediaForbidden):
        read(path)


def test_control_characters_of_a_path_are_escaped_and_long_paths_shortened() -> None:
    with pytest.raises(MediaNotFound) as caught:
        read("/no/\x1b[31m\n\u202e" + "x" * 500)
    message = str(caught.value)
    assert "\\x1b[31m\\n\\u202e" in message
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a/b.png", "/a/b.png"),
        ("FILE://localhost/a/b.png", "/a/b.png"),
        ("file:/a/b.png", "/a/b.png"),
        ("file:///a%20b/%C3%BC.png", "/a b/ü.png"),
        ("file:///a/b?c#d.png", "/a/b?c#d.png"),
        ("file:///a/%2e%2e/b.png", "/a/../b.png"),
    ],
)
def test_file_url_names_a_path(url: str, path: str) -> None:
    assert path_of_file_url(url) == path


@pytest.mark.parametrize(
    "url",
    [
        "file://host/a.png",
        "file://127.0.0.1/a.png",
        "file:////server/share/a.png",
        "file:\\\\server\\share\\a.png",
        "file:///a\\b.png",
        "file:a.png",
        "file:",
        "file://localhost",
        "file:///\ud800.png",
    ],
)
def test_odd_file_urls_are_refused(url: str) -> None:
    with pytest.raises(MediaForbidden):
        path_of_file_url(url)


@pytest.mark.parametrize("url", ["file:///%2e%2e/etc/passwd", "file:///etc/%00"])
def test_percent_encoding_does_not_leave_the_allowed_folders(root: Path, url: str) -> None:
    with pytest.raises(MediaForbidden):
        read(path_of_file_url(url), root)


@pytest.fixture(autouse=True)
def no_descriptor_stays_open() -> Iterator[None]:
    """Counts descriptors around each test: refusals must close what they opened."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
