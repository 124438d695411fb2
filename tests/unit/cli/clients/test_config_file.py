"""A client's file is replaced as a whole or not at all, and a copy of the former one is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.clients import config_file
from cli.clients.config_file import FileProblem


def test_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "mcp.json"
    assert config_file.replace(str(path), None, "{}") is None
    assert path.read_text() == "{}"
    assert path.stat().st_mode & 0o777 == 0o600


def test_mode_stays_and_the_former_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("old")
    path.chmod(0o640)
    first = config_file.replace(str(path), "old", "new")
    second = config_file.replace(str(path), "new", "newer")
    assert (first, second) == (f"{path}.backup", f"{path}.backup2")
    assert [Path(str(name)).read_text() for name in (first, second)] == ["old", "new"]
    assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o640}
    assert sorted(os.listdir(tmp_path)) == ["mcp.json", "mcp.json.backup", "mcp.json.backup2"]


def test_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    target = tmp_path / "dotfiles" / "mcp.json"
    target.write_text("old")
    link = tmp_path / "mcp.json"
    link.symlink_to(target)
    assert config_file.replace(str(link), "old", "new") == f"{target}.backup"
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_symbolic_link_to_nothing_gets_its_file(tmp_path: Path) -> None:
    link = tmp_path / "mcp.json"
    link.symlink_to(tmp_path / "real" / "mcp.json")
    config_file.replace(str(link), config_file.read(str(link)), "new")
    assert (tmp_path / "real" / "mcp.json").read_text() == "new"
    assert link.is_symlink()


def test_change_of_another_program_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("theirs")
    with pytest.raises(FileProblem, match="Another program"):
        config_file.replace(str(path), "old", "new")
    assert path.read_text() == "theirs"
    assert len(os.listdir(tmp_path)) == 1


def test_failed_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileProblem, match=r"Cannot write .*mcp\.json: Permission denied"):
        config_file.replace(str(path), "old", "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["mcp.json"]


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", None])
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mcp.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(FileProblem, match=r"mcp\.json"):
        config_file.read(str(path))


def test_line_ends_and_a_byte_order_mark_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(b"\xef\xbb\xbf{}\r\n")
    assert config_file.read(str(path)) == "\ufeff{}\r\n"
