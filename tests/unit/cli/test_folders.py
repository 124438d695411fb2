"""The rows about files and folders."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import pytest

from cli.check import folders
from cli.check.findings import Finding, State
from engine.sessions.db_file import connect
from tests.unit.cli.conftest import MakeServices

Disk = namedtuple("Disk", "total used free")


def only(findings: list[Finding]) -> Finding:
    """The one row of a check."""
    (finding,) = findings
    return finding


def test_output_folder_is_not_made(make_services: MakeServices, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "out"
    found = only(folders.output_folder(make_services(OMNI_OUTPUT_DIR=str(folder))))
    assert found.state is State.OK
    assert f"{folder}, created when first needed" in found.text
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_way_of_the_output_folder(make_services: MakeServices, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    found = only(folders.output_folder(make_services(OMNI_OUTPUT_DIR=str(tmp_path / "out" / "more"))))
    assert found.state is State.PROBLEM
    assert "out is a file. Fix that, or set OMNI_OUTPUT_DIR" in found.text


def test_output_folder_that_may_not_be_written(make_services: MakeServices) -> None:
    found = only(folders.output_folder(make_services(OMNI_OUTPUT_DIR="/proc/out")))
    assert found.state is State.PROBLEM
    assert "/proc cannot be written" in found.text


def test_full_disk_is_a_warning(make_services: MakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.check.folders.shutil.disk_usage", lambda path: Disk(1 << 30, 0, 1 << 20))
    found = only(folders.output_folder(make_services(OMNI_OUTPUT_DIR=str(tmp_path))))
    assert found.state is State.WARNING
    assert "1.0 MB free. Free some space" in found.text


def test_output_folder_is_not_needed_without_its_tools(make_services: MakeServices) -> None:
    assert only(folders.output_folder(make_services(VLLM_TOOLSETS="chat"))).state is State.OFF


def test_sessions_in_memory(make_services: MakeServices) -> None:
    found = only(folders.sessions(make_services()))
    assert found.state is State.OK
    assert "VLLM_SESSION_DB" in found.text


def test_session_file_is_not_made(make_services: MakeServices, tmp_path: Path) -> None:
    found = only(folders.sessions(make_services(VLLM_SESSION_DB=str(tmp_path / "more" / "sessions.db"))))
    assert found.state is State.OK
    assert "will be created with the first session" in found.text
    assert list(tmp_path.iterdir()) == []


def test_session_file_is_opened(make_services: MakeServices, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    connect(str(path)).close()
    found = only(folders.sessions(make_services(VLLM_SESSION_DB=str(path))))
    assert (found.state, found.text) == (State.OK, f"{path} works; it holds 0 sessions.")


def test_damaged_session_file_is_left_alone(make_services: MakeServices, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.write_text("nothing of the kind")
    found = only(folders.sessions(make_services(VLLM_SESSION_DB=str(path))))
    assert found.state is State.WARNING
    assert "is damaged" in found.text
    assert path.read_text() == "nothing of the kind"


def test_session_file_of_a_newer_server(make_services: MakeServices, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    connection = connect(str(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    found = only(folders.sessions(make_services(VLLM_SESSION_DB=str(path))))
    assert found.state is State.WARNING
    assert "newer server" in found.text


@pytest.mark.parametrize("name", ["", "folder"])
def test_session_file_that_cannot_be(make_services: MakeServices, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    path = tmp_path / "folder" if name else tmp_path / "file" / "sessions.db"
    found = only(folders.sessions(make_services(VLLM_SESSION_DB=str(path))))
    assert found.state is State.PROBLEM
    assert "VLLM_SESSION_DB" in found.text


def test_media_folders(make_services: MakeServices, tmp_path: Path) -> None:
    assert "All files" in only(folders.media_folders(make_services())).text
    assert "No files are read over HTTP" in only(folders.media_folders(make_services(VLLM_TRANSPORT="http"))).text
    both = os.pathsep.join((str(tmp_path), str(tmp_path / "none")))
    found = folders.media_folders(make_services(VLLM_ALLOWED_MEDIA_DIRS=both))
    assert [finding.state for finding in found] == [State.OK, State.PROBLEM]
    assert (
        found[1].text == f"The folder {tmp_path / 'none'} does not exist. Create it, or change VLLM_ALLOWED_MEDIA_DIRS."
    )


def test_log_file(make_services: MakeServices, tmp_path: Path) -> None:
    assert only(folders.log_file(make_services())).text == "Written to stderr."
    assert only(folders.log_file(make_services(VLLM_LOG_FILE=str(tmp_path / "log")))).state is State.OK
    assert only(folders.log_file(make_services(VLLM_LOG_FILE=str(tmp_path)))).state is State.PROBLEM
    assert only(folders.log_file(make_services(VLLM_LOG_FILE=str(tmp_path / "none" / "log")))).state is State.PROBLEM
    assert list(tmp_path.iterdir()) == []
