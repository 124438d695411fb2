"""How hosts start the process: with options of Python, through links, from other folders, with odd environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.lines import parsed
from tests.e2e.server_process import LOAD_S, SERVER, ServerProcess, client_environment

INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n'


def started(command: list[str | Path], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """A server that is asked for `initialize` alone, from a folder that is not its own."""
    done = subprocess.run(command, input=INITIALIZE, env=environment, cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert parsed(done.stdout)["result"]["serverInfo"]["name"] == "vllm-mcp-server"
    return done


@pytest.mark.parametrize("options", [["-P"], ["-I"], ["-O"], ["-OO", "-E"], ["-s", "-B"]], ids=" ".join)
def test_options_of_python_do_not_matter(options: list[str], tmp_path: Path) -> None:
    started([sys.executable, *options, SERVER], client_environment(), tmp_path)


@pytest.mark.parametrize(
    "environment", [{}, {"PATH": ""}, {"PYTHONSAFEPATH": "1"}, {"PYTHONPATH": "."}, {"PYTHONDONTWRITEBYTECODE": "1"}]
)
def test_environment_of_the_host_does_not_matter(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text("raise RuntimeError('not the settings of the server')")
    started([sys.executable, SERVER], environment, tmp_path)


def test_links_to_the_server_and_its_folder_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "server.py").symlink_to(SERVER)
    (tmp_path / "folder").symlink_to(SERVER.parent)
    for program in (tmp_path / "server.py", tmp_path / "folder" / "vllm_server.py", Path("folder/vllm_server.py")):
        started([sys.executable, program], client_environment(), tmp_path)


def test_linked_server_finds_the_packages_beside_it_from_any_python(tmp_path: Path) -> None:
    """The Python of the system, without the packages, starts the server again with those of the clone."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True, timeout=60)
    (tmp_path / "server.py").symlink_to(SERVER)
    started([bare / "bin" / "python", "-P", tmp_path / "server.py"], client_environment(), tmp_path)


def test_model_is_loaded_without_a_path_to_programs(model: dict[str, str], tmp_path: Path) -> None:
    with ServerProcess({**model, "PATH": "", "PYTHONSAFEPATH": "1"}, cwd=tmp_path) as server:
        arguments = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        assert not server.call("chat_completion", arguments, timeout_s=LOAD_S)["result"]["isError"]


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"VLLM_SESSION_DB": "${workspaceFolder}/s.db"}, ["VLLM_SESSION_DB", "${workspaceFolder}"]),
        ({"OPENAI_API_KEY": "${env:MY_KEY}"}, ["OPENAI_API_KEY", "${env:MY_KEY}"]),
        ({"VLLM_ALLOWED_MEDIA_DIR": "/pictures"}, ["VLLM_ALLOWED_MEDIA_DIR ", "VLLM_ALLOWED_MEDIA_DIRS?"]),
    ],
)
def test_what_nobody_filled_in_or_misspelt_is_told_by_every_call(
    variables: dict[str, str], told: list[str], tmp_path: Path
) -> None:
    with ServerProcess(variables, cwd=tmp_path) as server:
        for tool in ("model_info", "list_available_providers"):
            result = server.call(tool)["result"]
            assert result["isError"]
            assert all(words in result["content"][0]["text"] for words in told), result
    assert os.listdir(tmp_path) == []


def test_name_that_may_be_a_slip_is_told_in_the_log_and_by_the_check(tmp_path: Path) -> None:
    with ServerProcess({"VLLM_MODEL": "some/model"}, cwd=tmp_path) as server:
        assert not server.call("model_info")["result"]["isError"]
        assert "WARNING The variable VLLM_MODEL is not a setting of this server" in server.stderr
    done = subprocess.run(
        [sys.executable, SERVER, "--check"],
        env=client_environment(
            {"VLLM_MODEL": "some/model", "VLLM_TOOLSETS": "chat", "VLLM_BASE_URL": "http://127.0.0.1:9"}
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "VLLM_MODEL_NAME" in done.stdout


def test_log_goes_to_a_file_in_the_home_folder(tmp_path: Path) -> None:
    with ServerProcess({"HOME": str(tmp_path), "VLLM_LOG_FILE": "~/server.log"}) as server:
        assert json.loads(server.call("model_info")["result"]["content"][0]["text"])["server_state"]
    assert (tmp_path / "server.log").exists()
