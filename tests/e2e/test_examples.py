"""What a newcomer runs: the demo, the example clients, the client configurations, every command of the README."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from client_configs import PLACEHOLDER, TEMPLATES, client_config
from handlers.catalog import TOOLS
from handlers.messages import ChatMessage
from omni.profiles import ProfileBook
from tests.e2e.environments import python_environment
from tests.e2e.omni_server import OmniServer
from tests.e2e.pictures import drawn, png
from tests.e2e.server_process import LOAD_S, ROOT, ServerProcess, client_environment, parsed
from tests.unit.media.recordings import recording

Json = dict[str, Any]
TOOLS_BY_NAME = {tool.name: tool for tool in TOOLS}
WSL = """#!/bin/sh
# What Windows' wsl.exe does with --exec: no shell, and none of the variables that the caller set.
[ "$1" = --exec ] && shift && exec env -i HOME="$HOME" PATH=/usr/bin:/bin "$@"
"""
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The README's commands, without their remarks."""
    lines = (line for block in blocks("sh") for line in block.splitlines())
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def run(command: str | list[str | Path], tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the clone as a user would, with a `python` on the path."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(shutil.which("python3") or sys.executable)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=ROOT,
        env=client_environment({"PATH": path, **environment}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LOAD_S,
    )


def test_demo_describes_drawn_and_given_pictures(model: dict[str, str], tmp_path: Path) -> None:
    given = tmp_path / "mine.png"
    given.write_bytes(png(drawn("yellow", "square", "green")))
    finished = run([ROOT / "scripts" / "demo", given], tmp_path, **model)
    assert finished.returncode == 0, finished.stderr
    shown = finished.stdout.lower()
    for words in ("answered initialize", "red circle", "green square", "yellow", "ada", "first token after"):
        assert words in shown, finished.stdout
    assert shown.count("knows only drawings of circles, squares and triangles") == 1, "beside the given one's answer"


def small_pictures(omni: OmniServer, folder: Path) -> str:
    """A file of profiles by which this server's model makes small pictures in a moment."""
    small = {"default_steps": 2, "default_resolution": [64, 64], "supported_aspect_ratios": {"1:1": [64, 64]}}
    return _file(folder / "small.json", {omni.model_name: small})


def test_demo_generates_a_picture_and_looks_at_it(
    model: dict[str, str], omni_image_server: OmniServer, tmp_path: Path
) -> None:
    environment = {
        **model,
        "OMNI_URL": omni_image_server.url,
        "OMNI_OUTPUT_DIR": str(tmp_path / "out"),
        "OMNI_PROFILES": small_pictures(omni_image_server, tmp_path),
    }
    finished = run([ROOT / "scripts" / "demo", "images", "a red circle on a blue background"], tmp_path, **environment)
    assert finished.returncode == 0, finished.stderr
    (path,) = (tmp_path / "out").iterdir()
    assert f"saved as {path}" in finished.stdout
    assert "  model  " in finished.stdout


def test_demo_makes_a_face_talk(omni_video_server: OmniServer, tmp_path: Path) -> None:
    environment = {"OMNI_VIDEO_URL": omni_video_server.url, "OMNI_OUTPUT_DIR": str(tmp_path / "out")}
    picture, voice = tmp_path / "small.png", tmp_path / "voice.wav"
    picture.write_bytes(png(drawn("blue", "circle", "red")))
    voice.write_bytes(recording(seconds=0.3))
    finished = run([ROOT / "scripts" / "demo", "video", picture, voice], tmp_path, **environment)
    assert finished.returncode == 0, finished.stderr
    (path,) = (tmp_path / "out").iterdir()
    assert f"saved as {path}" in finished.stdout
    assert "random, so it shows noise" in finished.stdout


def test_demo_says_what_to_do_without_a_server(tmp_path: Path) -> None:
    finished = run([ROOT / "scripts" / "demo", "images"], tmp_path, OMNI_URL="http://127.0.0.1:1")
    assert finished.returncode == 1
    assert "Cannot connect to vLLM server at http://127.0.0.1:1" in finished.stderr


def test_demo_says_which_picture_is_missing(tmp_path: Path) -> None:
    finished = run([ROOT / "scripts" / "demo", tmp_path / "none.png"], tmp_path)
    assert finished.returncode != 0
    assert "none.png" in finished.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["video", "--help"]])
def test_demo_tells_how_it_is_used_before_anything_is_set_up(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo", tmp_path / "scripts" / "demo")  # and no scripts/setup beside it
    finished = run([tmp_path / "scripts" / "demo", *arguments], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("usage: scripts/demo")


@pytest.mark.parametrize("arguments", [["none.png"], ["--nonsense"], ["video", "none.png"], ["/tmp"]])
def test_demo_looks_at_its_arguments_before_anything_is_set_up(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo", tmp_path / "scripts" / "demo")
    finished = run([tmp_path / "scripts" / "demo", *arguments], tmp_path)
    assert finished.returncode == 2
    assert "usage: scripts/demo" in finished.stderr


@pytest.mark.parametrize("kind", [[], ["video"]], ids=["pictures", "video"])
def test_demo_refuses_what_is_no_picture_before_the_model_loads(kind: list[str], tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    finished = run([sys.executable, ROOT / "examples" / "demo.py", *kind, text], tmp_path)
    assert finished.returncode == 2
    assert "notes.txt is no picture" in finished.stderr
    assert "initialize" not in finished.stdout


def test_smallest_client_shows_the_tools(tmp_path: Path) -> None:
    finished = run([sys.executable, ROOT / "examples" / "stdio_client.py"], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "  chat_completion: " in finished.stdout


def test_smallest_client_tells_how_it_is_used(tmp_path: Path) -> None:
    finished = run([sys.executable, ROOT / "examples" / "stdio_client.py", "--help"], tmp_path)
    assert finished.returncode == 0
    assert 'stdio_client.py "What is your name?"' in finished.stdout


def test_smallest_client_asks_a_question(model: dict[str, str], tmp_path: Path) -> None:
    finished = run([sys.executable, ROOT / "examples" / "stdio_client.py", "My name is Ada."], tmp_path, **model)
    assert finished.returncode == 0, finished.stderr
    question, answer = finished.stdout.splitlines()[-2:]
    assert question == "> My name is Ada."
    assert answer


def test_smallest_client_tells_what_the_server_says(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, ROOT / "examples" / "stdio_client.py", "Hello"]
    finished = run(command, tmp_path, VLLM_MODEL_NAME=str(tmp_path / "none"))
    assert finished.returncode == 1
    assert "The server says: " in finished.stderr


def test_python_client_with_the_official_sdk(model: dict[str, str], tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(png(drawn("blue", "circle", "red")))
    finished = run(
        [python_environment("mcp2"), ROOT / "examples" / "python_client.py", picture],
        tmp_path,
        **model,
    )
    assert finished.returncode == 0, finished.stderr
    assert "red" in finished.stdout.lower()


def test_python_client_has_a_drawing_of_its_own(model: dict[str, str], tmp_path: Path) -> None:
    finished = run([python_environment("mcp2"), ROOT / "examples" / "python_client.py"], tmp_path, **model)
    assert finished.returncode == 0, finished.stderr
    assert "red square" in finished.stdout.lower()


def test_python_client_says_which_picture_is_missing_or_none(tmp_path: Path) -> None:
    client, text = ROOT / "examples" / "python_client.py", tmp_path / "notes.txt"
    text.write_text("no picture")
    missing = run([python_environment("mcp2"), client, tmp_path / "none.png"], tmp_path)
    assert missing.returncode == 2
    assert "none.png" in missing.stderr
    shutil.rmtree(tmp_path / "bin")
    refused = run([python_environment("mcp2"), client, text], tmp_path)
    assert refused.returncode == 1
    assert "The server says: " in refused.stderr
    assert "None" not in refused.stdout


@pytest.mark.parametrize("client", TEMPLATES)
def test_printed_configuration_starts_the_server(client: str, tmp_path: Path) -> None:
    printed = run([sys.executable, ROOT / "vllm_server.py", "--print-config", client], tmp_path)
    assert printed.returncode == 0, printed.stderr
    configuration = json.loads(printed.stdout)
    assert configuration == json.loads(client_config(client, str(ROOT)))
    (servers,) = (value for value in configuration.values() if isinstance(value, dict))
    entry = servers["vllm"]
    wsl = tmp_path / "bin" / "wsl.exe"
    wsl.write_text(WSL)
    wsl.chmod(0o755)
    line = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n'
    finished = subprocess.run(
        [entry["command"], *entry["args"]],
        input=line,
        env=client_environment({"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **entry.get("env", {})}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert parsed(finished.stdout.encode())["result"]["serverInfo"]["name"] == "vllm-mcp-server"


@pytest.mark.parametrize("client", TEMPLATES)
def test_template_holds_nothing_but_the_placeholder_for_the_folder(client: str) -> None:
    text = (ROOT / TEMPLATES[client]).read_text()
    assert PLACEHOLDER in text
    assert str(ROOT) not in text


@pytest.mark.parametrize("command", [command for command in commands() if not command.startswith("scripts/")])
def test_command_of_the_readme_works(command: str, model: dict[str, str], tmp_path: Path) -> None:
    finished = run(command, tmp_path, **model)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    if "--check" in command:  # tests/e2e/test_check.py reads the table
        return
    answer = json.loads(finished.stdout)
    assert "error" not in answer
    assert not answer.get("result", {}).get("isError"), answer


def test_scripts_of_the_readme_exist() -> None:
    for command in commands():
        if command.startswith("scripts/"):
            assert os.access(ROOT / command.split()[0], os.X_OK), command


def test_json_of_the_readme_is_what_the_server_takes(demo_server: ServerProcess) -> None:
    entry, message, calls, *more_calls = blocks("json")
    assert json.loads(entry)["mcpServers"]["vllm"]["args"] == [f"{PLACEHOLDER}/vllm_server.py"]
    msgspec.json.decode(message, type=ChatMessage)
    answers = []
    for line in calls.splitlines():
        call = json.loads(line)
        call["arguments"].setdefault("temperature", 0)  # by chance so small a model misspells a name now and then
        answer = demo_server.request("tools/call", call, timeout_s=LOAD_S)
        answers.append(answer["result"]["content"][0]["text"])
    assert "Alice" in answers[-1]
    for line in "".join(more_calls).splitlines():
        call = json.loads(line)
        if call.get("name", "") in TOOLS_BY_NAME and TOOLS_BY_NAME[call["name"]].family not in ("images", "video"):
            answer = demo_server.request("tools/call", call, timeout_s=LOAD_S)
            assert not answer["result"]["isError"], answer
    demo_server.call("delete_session", {"session_id": "user-123"})


def test_json_of_the_readme_about_pictures_is_what_the_server_takes(
    omni_image_server: OmniServer, tmp_path: Path
) -> None:
    texts = [line for block in blocks("json") for line in block.splitlines()]
    lines = [json.loads(line) for line in texts if line.startswith('{"name"')]
    (profiles,) = [json.loads(line) for line in texts if line.startswith('{"my/model"')]
    assert ProfileBook(_file(tmp_path / "profiles.json", profiles)).find("my/model")[1]
    picture = tmp_path / "circle.png"
    picture.write_bytes(png(drawn("blue", "circle", "red")))
    settings = {
        "OMNI_URL": omni_image_server.url,
        "OMNI_OUTPUT_DIR": str(tmp_path / "out"),
        "OMNI_PROFILES": small_pictures(omni_image_server, tmp_path),
    }
    calls = [line for line in lines if line.get("name") in ("generate_image", "batch_generate")]
    with ServerProcess(settings) as server:
        for call in calls:
            ours = json.loads(json.dumps(call).replace("/home/me/circle.png", str(picture)))
            answer = server.request("tools/call", ours, timeout_s=LOAD_S)
            assert not answer["result"]["isError"], answer
    assert len(os.listdir(tmp_path / "out")) == 4


def _file(path: Path, content: Json) -> str:
    path.write_text(json.dumps(content))
    return str(path)
