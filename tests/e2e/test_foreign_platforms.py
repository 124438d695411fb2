"""The server under stand-ins for macOS and Windows: it calls nothing that these systems lack."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.installed_server import ANSWER_S, HELLO, Installed, Json
from tests.e2e.processes import assert_all_end, children_of
from tests.e2e.server_process import ROOT, client_environment
from tests.e2e.tour import STEPS, asked
from tests.scripted_openai import ScriptedOpenAI

FOREIGN = str(ROOT / "tests" / "foreign_platform.py")
SERVER = str(ROOT / "vllm_server.py")


@pytest.fixture(params=["darwin", "win32"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Installed:
    """The server of this clone on another system."""
    (tmp_path / "folder").mkdir()
    environment = client_environment({"HOME": str(tmp_path)})
    return Installed((sys.executable, FOREIGN, request.param, SERVER), environment, tmp_path / "folder")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_tour(step: Callable[[Installed], None], installed: Installed) -> None:
    step(installed)


def test_end_of_input_is_answered_and_ends_the_process(installed: Installed) -> None:
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_sessions"}},
    ]
    data = b"\n".join(json.dumps(line).encode() for line in lines)
    done = subprocess.run(
        installed.command, input=data, env=installed.environment, capture_output=True, timeout=ANSWER_S, check=True
    )
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1, 2]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_ends_the_process_with_0(installed: Installed, number: signal.Signals) -> None:
    with installed.start() as server:
        server.initialize()
        server.process.send_signal(number)
        assert server.process.wait(ANSWER_S) == 0


def test_children_run_on_that_system_too_and_do_not_outlive_a_killed_server(installed: Installed) -> None:
    with ScriptedOpenAI() as models, installed.start(VLLM_BASE_URL=models.url) as server:
        server.initialize()
        path = installed.folder / "a.gif"
        Image.new("RGB", (64, 64), "red").save(path)  # a simple PNG file needs no child
        server.call("chat_completion", {"messages": asked("What is this?", str(path))})
        children = children_of(server.process.pid)
        assert [FOREIGN in child.command() for child in children] == [True]
        server.process.kill()
        server.process.wait(ANSWER_S)
        assert_all_end(children)


def test_figures_that_the_system_does_not_report_are_null(installed: Installed) -> None:
    with ScriptedOpenAI() as models, installed.start(VLLM_BASE_URL=models.url) as server:
        server.initialize()
        status: Json = server.call("get_gpu_status", {})
    assert (status["host_memory_free_gb"], status["process_memory_gb"], status["gpu_available"]) == (None, None, False)


PATHS_OF_OTHER_MACHINES = (
    r"\\server\share\a.png",
    "//server/share/a.png",
    r"\\?\UNC\server\share\a.png",
    "file://server/share/a.png",
    "file:////server/share/a.png",
    "file:///%5C%5Cserver/share/a.png",
)


def test_paths_of_other_machines_are_refused(installed: Installed) -> None:
    with ScriptedOpenAI() as models, installed.start(VLLM_BASE_URL=models.url) as server:
        server.initialize()
        for path in PATHS_OF_OTHER_MACHINES:
            arguments = {"messages": asked("What is this?", path)}
            result = server.request("tools/call", {"name": "chat_completion", "arguments": arguments})
            assert result["isError"], path
            assert "another machine" in result["content"][0]["text"], (path, result)
