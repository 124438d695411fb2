"""The installed server without vLLM, numpy and PyAV; then `--install-engine`, and a chat with the bundled model."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from settings import COMMAND
from tests.e2e.environments import new_environment
from tests.e2e.images import drawn
from tests.e2e.installed_server import Installed
from tests.e2e.package import WHEEL, build
from tests.e2e.server_process import ROOT, client_environment
from tests.e2e.tour import asked, image_of
from tests.scripted_openai import ScriptedOpenAI

MISSING = "so no model runs on this machine. In a terminal run `mcp-server-vllm --install-engine`"
INSTALL_TIMEOUT_S = 600.0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel alone."""
    folder = tmp_path_factory.mktemp("light")
    build(ROOT, "wheel", folder)
    return new_environment(folder / "venv", str(folder / WHEEL))


@pytest.fixture
def installed(python: Path, tmp_path: Path) -> Installed:
    """The installed command, for a user without any files of their own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return Installed((str(python.with_name(COMMAND)),), client_environment({"HOME": str(tmp_path)}), folder)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    """A folder for the engine, which is too large to be kept."""
    yield tmp_path / "engine"
    for path in tmp_path.glob("engine*"):
        shutil.rmtree(path, ignore_errors=True)


def test_missing_vllm_is_the_same_sentence_everywhere(installed: Installed) -> None:
    status, printed = installed.run("--check")
    (row,) = [line for line in printed.splitlines() if line.startswith("vllm ")]
    sentence = row.partition(" problem ")[2]
    assert (status, MISSING in sentence) == (1, True), printed
    with installed.start() as server:
        server.initialize()
        assert server.call("model_info", {})["error"] == sentence
        assert server.call("list_available_models", {})["message"].startswith(sentence)
        assert server.call("list_available_providers", {})["providers"][0]["error"] == sentence
        assert server.call("validate_multimodal_request", {"prompt": "a"})["errors"] == [sentence]
        for tool, arguments in {
            "chat_completion": {"messages": asked("Hello")},
            "check_image_relevance": {"image_path": photo(installed.folder), "query": "a circle"},
        }.items():
            result = server.request("tools/call", {"name": tool, "arguments": arguments})
            assert result["isError"]
            assert f"Failed to initialize vLLM: {sentence}" in result["content"][0]["text"]
        assert server.call("model_info", {})["error"] == f"Failed to initialize vLLM: {sentence}"


def test_audio_and_video_name_the_extra(installed: Installed, python: Path) -> None:
    sound = installed.folder / "a.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    with ScriptedOpenAI() as models, installed.start(OPENAI_API_KEY="key", OPENAI_BASE_URL=models.url) as server:
        server.initialize()
        for tool in ("validate_multimodal_request", "generate_multimodal_response"):
            arguments = {"prompt": "What is this?", "provider": "openai", "file_paths": [str(sound)]}
            result = server.request("tools/call", {"name": tool, "arguments": arguments})
            text = result["content"][0]["text"]
            assert f"needs the extra media: run `{python} -m pip install 'mcp-server-vllm[media]'`" in text, text
        arguments = {"image_path": photo(installed.folder), "audio_path": str(sound)}
        result = server.request("tools/call", {"name": "process_image_to_video", "arguments": arguments})
        assert result["isError"]
        assert "needs the extra media" in result["content"][0]["text"], result
        result = server.request("tools/call", {"name": "generate_speech", "arguments": {"text": "Hello"}})
        assert result["isError"]
        assert "needs the extra media" in result["content"][0]["text"], result


def test_grey_images_of_16_bits_and_floats_are_sent(installed: Installed) -> None:
    names = {"I;16": "a.png", "F": "a.tiff"}
    for mode, pixels in {"I;16": struct.pack("<2H", 0, 65_535), "F": struct.pack("<2f", 0.0, 1.0)}.items():
        Image.frombytes(mode, (2, 1), pixels).resize((64, 32)).save(installed.folder / names[mode])
    with ScriptedOpenAI() as models, installed.start(VLLM_BASE_URL=models.url) as server:
        server.initialize()
        for name in names.values():
            server.call("chat_completion", {"messages": asked("What is this?", str(installed.folder / name))})
        sent = [image_of(chat["messages"][-1]) for chat in models.chats()]
    assert len(sent) == 2
    assert all(image.startswith("data:image/") for image in sent)


def test_engine_is_installed_and_answers(installed: Installed, engine: Path) -> None:
    # With the user's own settings of pip and uv, and what uv has downloaded before.
    installing = subprocess.run(
        [*installed.command, "--install-engine", "cpu"],
        env={**os.environ, "VLLM_ENGINE_DIR": str(engine)},
        cwd=installed.folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    assert installing.returncode == 0, installing.stderr
    assert {path.name for path in engine.parent.glob("engine*")} == {"engine", "engine.lock"}
    with_engine = replace(installed, environment={**installed.environment, "VLLM_ENGINE_DIR": str(engine)})
    with with_engine.start() as server:
        server.initialize()
        answer = server.call("chat_completion", {"messages": asked("Which shape is this?", photo(installed.folder))})
        assert "circle" in answer["text"].lower(), answer
        assert server.call("model_info", {})["vllm_version"]
    stamp = engine / "setup.done.run"
    stamp.write_text(stamp.read_text() + "another-package\n")
    with with_engine.start() as server:
        server.initialize()
        assert MISSING in server.call("model_info", {})["error"]
        told = "the engine was installed for another version; run mcp-server-vllm --install-engine again\n"
        assert server.stderr.count(told) == 1


def photo(folder: Path) -> str:
    """The path of a drawing of a red circle."""
    path = folder / "circle.png"
    drawn().save(path)
    return str(path)
