"""Relative paths count from the folder that the server was started in, wherever it is now."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import settings
from media.errors import MediaNotFound
from media.files.paths import read_file
from omni.files.output_folder import FOLDER, OutputFolder
from settings import working_folder


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the server is started; the test's own place is as before when it ends."""
    monkeypatch.setattr(working_folder, "_left", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "start"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    os.chdir(tmp_path)


@pytest.fixture
def gone(start: Path) -> Path:
    """The folder in which the server is started, gone at that time."""
    start.rmdir()
    return start


def settled(**environment: str) -> settings.Settings:
    """The settings of a server that has left its folder."""
    return settings.initialize(environment, {})


def test_the_folder_is_left_and_relative_paths_still_count_from_it(start: Path) -> None:
    working_folder.leave()
    assert os.getcwd() == os.path.abspath(os.sep)
    assert working_folder.absolute("a/../b") == str(start / "b")
    assert working_folder.absolute("/a") == "/a"
    assert working_folder.absolute("~/a") == "~/a"
    working_folder.leave()
    assert working_folder.absolute("b") == str(start / "b")


def test_modules_are_found_where_they_were(start: Path) -> None:
    sys.path[:0] = ["", "lib"]
    working_folder.leave()
    assert sys.path[:2] == [f"{start}{os.sep}", str(start / "lib")]


def test_relative_settings_count_from_the_start(start: Path) -> None:
    (start / "my-model").mkdir()
    (start / "org").mkdir()
    (start / "template.jinja").write_text("")
    found = settled(
        OMNI_OUTPUT_DIR="out",
        VLLM_SESSION_DB="./sessions.db",
        VLLM_LOG_FILE="server.log",
        VLLM_LORA_MODULES="a=adapters/a",
        VLLM_MODEL_NAME="my-model",
        VLLM_EXTRA_ENGINE_ARGS='{"chat_template": "template.jinja", "tokenizer": "org/t", "load_format": "org"}',
    )
    assert found.problems == ()
    assert found.omni.output_dir == str(start / "out")
    assert found.sessions.session_db == str(start / "sessions.db")
    assert found.server.log_file == str(start / "server.log")
    assert found.engine.lora_modules == {"a": str(start / "adapters/a")}
    assert found.engine.model_name == str(start / "my-model")
    extra = {"chat_template": str(start / "template.jinja"), "tokenizer": "org/t", "load_format": "org"}
    assert found.engine.extra_engine_args == extra


@pytest.mark.parametrize("name", ["org/model", "./nothing", "~maker/model"])
def test_name_of_a_model_that_is_no_folder_here_stays_a_name(name: str, start: Path) -> None:
    assert settled(VLLM_MODEL_NAME=name).engine.model_name == name


def test_libraries_find_their_relative_paths(start: Path) -> None:
    environment = {"HF_HOME": "cache/hf", "TMPDIR": "/tmp", "PYTHONPATH": f"lib{os.pathsep}/abs", "OTHER": "x/y"}
    found = settings.initialize(environment, {})
    assert environment == {
        "HF_HOME": str(start / "cache/hf"),
        "TMPDIR": "/tmp",
        "PYTHONPATH": f"{start / 'lib'}{os.pathsep}/abs",
        "OTHER": "x/y",
    }
    assert found.engine.hf_cache == str(start / "cache/hf/hub")


def test_relative_media_and_the_default_output_folder_count_from_the_start(start: Path) -> None:
    (start / "a.txt").write_bytes(b"here")
    working_folder.leave()
    assert read_file("a.txt", None, 100) == b"here"
    assert OutputFolder(None).path == str(start / FOLDER)


def test_folder_that_is_gone_at_the_start_is_left_all_the_same(gone: Path) -> None:
    assert settled().problems == ()
    assert os.getcwd() == os.path.abspath(os.sep)
    with pytest.raises(FileNotFoundError):
        working_folder.absolute("a")
    with pytest.raises(MediaNotFound, match="is relative, and the server has no working folder"):
        read_file("a.png", None, 100)
    assert OutputFolder(None).path == os.path.join(os.path.expanduser("~"), FOLDER)


def test_relative_setting_without_a_folder_to_count_from_is_a_problem(gone: Path) -> None:
    problems = settled(OMNI_OUTPUT_DIR="out", HF_HOME="cache").problems
    assert len(problems) == 2
    for variable, problem in zip(("HF_HOME", "OMNI_OUTPUT_DIR"), problems, strict=True):
        assert problem.startswith(f"The setting {variable} is a relative path, and the folder that the server was")
        assert problem.endswith("give an absolute path.")


def test_folder_that_goes_later_leaves_absolute_paths_alone(start: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"here")
    working_folder.leave()
    start.rmdir()
    assert os.getcwd() == os.path.abspath(os.sep)
    assert read_file(str(tmp_path / "a.txt"), None, 100) == b"here"
    with pytest.raises(MediaNotFound, match="There is no file"):
        read_file("a.txt", None, 100)
