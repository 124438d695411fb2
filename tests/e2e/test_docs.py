"""Every command and every JSON value in a fenced block of the documents: run, or checked by `documented_commands`.

Commands run in a copy of the repository with the bundled model, requests go to a real server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.chat.messages import ChatMessage
from handlers.tool_table import TOOLS
from omni.images.checks import Candidate, ImageCheck
from omni.images.profiles import ProfileBook
from settings import COMMAND, read, rows
from settings.providers import read_config_file
from settings.tool_selection import families_of
from tests.documents import PLACEHOLDER, ROOT, Block, json_blocks, other_blocks
from tests.e2e import real_models
from tests.e2e.documented_commands import INTERNAL, NOT_RUN, assert_call_fits, commands_of, reasons, tool_schemas
from tests.e2e.images import drawn, png
from tests.e2e.media_answers import facts
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import LOAD_S, ServerProcess, client_environment
from tests.e2e.tiny_adapters import random_image_adapter
from tests.e2e.web_server import WebServer
from tests.scripted_speech import ScriptedSpeechServer
from tests.unit.media.sample_media import audio_file, video_file

Json = dict[str, Any]
FAMILIES = {tool.name: families_of(tool.name)[0] for tool in TOOLS}
HTTP_URL = "http://127.0.0.1:8080"
TOKEN = "a-token-of-the-test"
MAX_NOT_RUN = 25
SERVERS = re.compile(
    r"(?:scripts/start(?:-dev)?\.sh|(?:\S*python vllm_server\.py|mcp-server-vllm) --transport http)(?!.*\|)"
)
"""Commands that run until they are ended: they are run until they listen."""


def test_list_of_commands_that_are_not_run_is_short_and_used() -> None:
    commands = [command for block in other_blocks() for command in commands_of(block)]
    assert len(NOT_RUN) <= MAX_NOT_RUN
    for command in commands:
        assert len(reasons(command)) <= 1, command
    unused = {entry.pattern for entry in NOT_RUN} - {entry.pattern for each in commands for entry in reasons(each)}
    assert unused <= {"docker build", "docker run", "git clone REPOSITORY_URL ", *INTERNAL}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the repository's files, with the environment and the models of this one, and `python` on the path."""
    copy = tmp_path / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("models/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / "models").symlink_to(ROOT / "models")
    (copy / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(shutil.which("python3") or sys.executable)
    command = tmp_path / "bin" / COMMAND
    command.write_text(f'#!/bin/sh\nPYTHONPATH={copy} exec {sys.executable} -m mcp_server_vllm "$@"\n')
    command.chmod(0o755)
    return copy


@pytest.fixture
def environment(clone: Path, model: dict[str, str]) -> dict[str, str]:
    """What a command finds: the bundled model, and a token for HTTP."""
    path = f"{clone.parent / 'bin'}:{os.environ['PATH']}"
    return client_environment({**model, "PATH": path, "VLLM_HTTP_TOKENS": TOKEN})


def place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", other_blocks(), ids=place)
def test_commands_work(block: Block, clone: Path, environment: dict[str, str]) -> None:
    to_run = []
    for command in commands_of(block):
        if entries := reasons(command):
            entries[0].check(block, command)
        elif SERVERS.match(command):
            assert_listens(command, clone, environment)
        else:
            to_run.append(command)
    if not to_run:
        return
    script = "\n".join(to_run)
    if HTTP_URL in script:
        with WebServer({**environment}, transport="http") as server:
            run(script.replace(HTTP_URL, server.url), block, clone, environment)
    else:
        run(script, block, clone, environment)


def run(script: str, block: Block, clone: Path, environment: dict[str, str]) -> None:
    """Runs commands with one shell; none may fail, and no reply may be an error."""
    strict = 'set -euo pipefail\ncurl() { command curl --fail-with-body --silent --show-error "$@"; }\n'
    done = subprocess.run(
        ["bash", "-c", strict + script],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LOAD_S,
    )
    assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
    for reply in [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"jsonrpc"')]:
        assert not reply["result"].get("isError"), f"{block.place}: {reply}"


def assert_listens(command: str, clone: Path, environment: dict[str, str]) -> None:
    """Runs a server on a free port until it listens."""
    words = re.sub(r"--port \d+", "", command)
    process = subprocess.Popen(
        ["bash", "-c", f"exec {words} --port 0"],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stderr is not None
        try:
            assert any("listening at http://" in line for line in process.stderr), command
        finally:
            os.killpg(process.pid, 15)


@pytest.fixture(scope="module")
def schemas() -> dict[str, Json]:
    """The input schemas of all tools, as the server lists them."""
    return tool_schemas()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A real file for each ending that the documents name."""
    folder = tmp_path_factory.mktemp("media")
    contents = {
        "png": png(drawn("blue", "circle", "red")),
        "mp3": audio_file(seconds=0.3),
        "wav": audio_file(seconds=2),
        "mp4": video_file(size=(96, 64), audio="aac"),
    }
    for ending, content in {**contents, "txt": b"notes"}.items():
        (folder / f"file.{ending}").write_bytes(content)
    paths = {ending: str(folder / f"file.{ending}") for ending in (*contents, "txt")}
    return {**paths, "jpg": paths["png"]}


def with_files(value: Any, media: dict[str, str]) -> Any:
    """The value with paths of real files in the place of the paths and addresses of the example."""
    if isinstance(value, dict):
        return {name: with_files(item, media) for name, item in value.items()}
    if isinstance(value, list):
        return [with_files(item, media) for item in value]
    is_example = isinstance(value, str) and re.match(r"(/home/me|/photos|https://example\.com)/", value)
    return media[value.rpartition(".")[2]] if is_example else value


def calls_of(block: Block) -> list[Json]:
    return [value for value in block.values() or [] if "arguments" in value]


def call_blocks(*families: str) -> list[Block]:
    """The blocks with calls of tools of these families."""
    return [block for block in json_blocks() if any(FAMILIES.get(call["name"]) in families for call in calls_of(block))]


@pytest.mark.parametrize("block", [block for block in json_blocks() if calls_of(block)], ids=place)
def test_arguments_of_calls_fit_the_tools(block: Block, schemas: dict[str, Json]) -> None:
    for call in calls_of(block):
        assert set(call) == {"name", "arguments"}
        assert_call_fits(call, schemas)


@pytest.mark.parametrize("block", call_blocks(*{*FAMILIES.values()} - {"images", "video", "audio"}), ids=place)
def test_calls_succeed(
    block: Block, demo_server: ServerProcess, schemas: dict[str, Json], media: dict[str, str]
) -> None:
    sessions = set()
    for call in with_files(calls_of(block), media):
        arguments = call["arguments"]
        if "temperature" in schemas[call["name"]]["properties"]:
            arguments.setdefault("temperature", 0)  # so small a model misspells a name now and then
        result = demo_server.call(call["name"], arguments)["result"]
        assert not result["isError"], result
        if "What is my name?" in json.dumps(arguments):
            assert "Alice" in result["content"][0]["text"]
        sessions |= {arguments.get("session_id")} - {None}
    for session_id in sessions:
        demo_server.result("delete_session", {"session_id": session_id})


def test_calls_transcribe(media: dict[str, str]) -> None:
    with ServerProcess({"VLLM_ASR_MODEL": real_models.folder("whisper-base")}) as server:
        server.initialize()
        for call in with_files(audio_calls(), media):
            if call["name"] != "generate_speech":
                result = server.call(call["name"], call["arguments"])["result"]
                assert not result["isError"], result


def audio_calls() -> list[Json]:
    return [call for block in call_blocks("audio") for call in calls_of(block)]


def test_calls_speak(media: dict[str, str], tmp_path: Path) -> None:
    with ScriptedSpeechServer() as speech:
        speech.voices.append("vivian")
        settings = {"OMNI_SPEECH_URL": speech.url, "OMNI_OUTPUT_DIR": str(tmp_path)}
        with ServerProcess(settings) as server:
            for call in with_files(audio_calls(), media):
                if call["name"] == "generate_speech":
                    result = server.call(call["name"], call["arguments"])["result"]
                    assert not result["isError"], result


@pytest.fixture(scope="module")
def studio(omni_image_server: OmniServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that makes small images."""
    folder = tmp_path_factory.mktemp("studio")
    settings = {"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(folder / "out")}
    settings["OMNI_LORA_MODULES"] = json.dumps({"ink": str(random_image_adapter(folder / "ink", seed=1))})
    with ServerProcess({**settings, "OMNI_PROFILES": omni_image_server.small_profile(folder)}) as server:
        server.initialize()  # revisions before 2025-06-18 have no links to files
        yield server


@pytest.fixture(scope="module")
def made(studio: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands for the jobs, the generated file and the mask of the examples."""
    image = facts(studio, "generate_image", {"prompt": "a"})
    batch = facts(studio, "batch_generate", {"prompts": ["a", "b"]})
    mask = tmp_path_factory.mktemp("mask") / "mask.png"
    mask.write_bytes(png(drawn("black", "circle", "white")))
    return {
        "image_1f2e3d4c5b6a7988": image["job_id"],
        "batch_1f2e3d4c5b6a7988": batch["batch_id"],
        "/home/me/generated_images/img_20260218_143022_a1b2c3.png": image["file_path"],
        "/home/me/mask.png": str(mask),
    }


@pytest.mark.parametrize("block", call_blocks("images"), ids=place)
def test_calls_make_images(block: Block, studio: ServerProcess, media: dict[str, str], made: dict[str, str]) -> None:
    for call in calls_of(block):
        text = json.dumps(call["arguments"])
        for example, real in made.items():
            text = text.replace(example, real)
        result = studio.call(call["name"], with_files(json.loads(text), media))["result"]
        assert not result["isError"], result
        if call["name"] != "list_images":
            assert {"image", "resource_link"} <= {part["type"] for part in result["content"]}


@pytest.mark.parametrize("block", [block for block in json_blocks() if not calls_of(block)], ids=place)
def test_other_json_is_what_the_server_or_its_clients_take(block: Block, tmp_path: Path) -> None:
    for value in block.values() or []:
        text = json.dumps(value)
        file = tmp_path / "value.json"
        file.write_text(text)
        if "mcpServers" in value:
            entry = value["mcpServers"]["vllm"]
            starts = ([f"{PLACEHOLDER}/vllm_server.py"], ["mcp-server-vllm"])
            assert entry.get("type") == "http" or entry["args"] in starts
            assert set(entry.get("env", {})) <= {row.variable for row in rows()}
        elif "role" in value:
            msgspec.json.decode(text, type=ChatMessage)
        elif "providers" in value:
            problems: list[str] = []
            assert read_config_file(str(file), {"LAB_KEY": "a key"}, problems)
            assert problems == []
        elif "check" in value:
            msgspec.convert(value["check"], ImageCheck)
            msgspec.convert(value["candidates"], list[Candidate])
        elif any(isinstance(adapter, dict) and "scale" in adapter for adapter in value.values()):
            assert list(read({"OMNI_LORA_MODULES": text}).omni.lora_modules) == list(value)
        else:
            (name,) = value
            assert ProfileBook(str(file)).find(name)[1]
