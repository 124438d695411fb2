"""The folder that a server is started in may be deleted, before the start or later, and nothing but it is lost."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.images import drawn
from tests.e2e.processes import children_of
from tests.e2e.server_process import LOAD_S, SERVER, Json, ServerProcess
from tests.mcp_results import text_of

HELLO: Json = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
IN_A_GONE_FOLDER = ("sh", "-c", 'folder=$(mktemp -d) && cd "$folder" && rmdir "$folder" && exec "$@"', "sh")


def about(path: str) -> Json:
    """A question about an image."""
    content = [{"type": "image", "path": path}, {"type": "text", "text": "What is it?"}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 1}


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """The folder to start in, with an image."""
    folder = tmp_path / "start"
    folder.mkdir()
    drawn().save(folder / "image.png")
    return folder


def test_model_is_loaded_in_a_folder_that_was_gone_at_the_start(model: dict[str, str]) -> None:
    with ServerProcess(model, wrapper=IN_A_GONE_FOLDER) as server:
        server.initialize()
        assert server.result("chat_completion", HELLO)["finish_reason"] == "length"
        answer = server.call("chat_completion", about("image.png"))
        assert "is relative, and the server has no working folder" in text_of(answer)
        server.close_stdin()
        assert server.wait() == 0


def test_folder_that_goes_while_the_server_runs_is_not_missed(model: dict[str, str], start: Path) -> None:
    with ServerProcess({**model, "VLLM_SESSION_DB": "sessions.db"}, cwd=start) as server:
        server.initialize()
        assert server.result("chat_completion", about("image.png"))["finish_reason"] == "length"
        server.result("chat_completion", {**HELLO, "session_id": "a"})
        assert (start / "sessions.db").exists()
        shutil.rmtree(start)
        answer = server.call("chat_completion", about("image.png"))
        assert "There is no file" in text_of(answer)
        server.result("release_gpu")
        assert server.result("chat_completion", HELLO)["finish_reason"] == "length"


def test_processes_of_the_engine_are_started_although_the_folder_is_gone(model: dict[str, str], start: Path) -> None:
    environment = {**model, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with ServerProcess(environment, cwd=start) as server:
        server.initialize()
        shutil.rmtree(start)
        assert server.result("chat_completion", HELLO, timeout_s=LOAD_S)["finish_reason"] == "length"
        children = children_of(server.pid)
        assert children
        assert {os.readlink(f"/proc/{child.pid}/cwd") for child in children} == {os.sep}


def test_relative_settings_and_a_relative_program_count_from_the_start(start: Path) -> None:
    environment = {"VLLM_LOG_FILE": "server.log", "OMNI_OUTPUT_DIR": "out", "HF_HOME": "cache"}
    program = Path(os.path.relpath(SERVER, start))
    with ServerProcess(environment, cwd=start, program=program, python=sys.executable) as server:
        server.initialize()
        server.close_stdin()
        assert server.wait() == 0
    assert (start / "server.log").read_text().endswith("INFO shutting down\n")
