"""What a newcomer runs: the demo and the example clients."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.environments import python_environment
from tests.e2e.images import drawn, png
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import LOAD_S, ROOT, client_environment
from tests.unit.media.sample_media import audio_file


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


def test_demo_describes_drawn_and_given_images(model: dict[str, str], tmp_path: Path) -> None:
    given = tmp_path / "mine.png"
    given.write_bytes(png(drawn("yellow", "square", "green")))
    finished = run([ROOT / "scripts" / "demo", given], tmp_path, **model)
    assert finished.returncode == 0, finished.stderr
    shown = finished.stdout.lower()
    for words in ("answered initialize", "red circle", "green square", "yellow", "ada", "first token after"):
        assert words in shown, finished.stdout
    assert shown.count("knows only drawings of circles, squares and triangles") == 1, "beside the given one's answer"


def test_demo_generates_an_image_and_looks_at_it(
    model: dict[str, str], omni_image_server: OmniServer, tmp_path: Path
) -> None:
    environment = {
        **model,
        "OMNI_URL": omni_image_server.url,
        "OMNI_OUTPUT_DIR": str(tmp_path / "out"),
        "OMNI_PROFILES": omni_image_server.small_profile(tmp_path),
    }
    finished = run([ROOT / "scripts" / "demo", "images", "a red circle on a blue background"], tmp_path, **environment)
    assert finished.returncode == 0, finished.stderr
    (path,) = (tmp_path / "out").iterdir()
    assert f"saved as {path}" in finished.stdout
    assert "  model  " in finished.stdout


def test_demo_makes_a_face_talk(omni_video_server: OmniServer, tmp_path: Path) -> None:
    environment = {"OMNI_VIDEO_URL": omni_video_server.url, "OMNI_OUTPUT_DIR": str(tmp_path / "out")}
    image, voice = tmp_path / "small.png", tmp_path / "voice.wav"
    image.write_bytes(png(drawn("blue", "circle", "red")))
    voice.write_bytes(audio_file(seconds=0.3))
    finished = run([ROOT / "scripts" / "demo", "video", image, voice], tmp_path, **environment)
    assert finished.returncode == 0, finished.stderr
    (path,) = (tmp_path / "out").iterdir()
    assert f"saved as {path}" in finished.stdout
    assert "random, so it shows noise" in finished.stdout


def test_demo_says_what_to_do_without_a_server(tmp_path: Path) -> None:
    finished = run([ROOT / "scripts" / "demo", "images"], tmp_path, OMNI_URL="http://127.0.0.1:1")
    assert finished.returncode == 1
    assert "Cannot connect to vLLM server at http://127.0.0.1:1" in finished.stderr


def test_demo_says_which_image_is_missing(tmp_path: Path) -> None:
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
def test_demo_refuses_what_is_no_image_before_the_model_loads(kind: list[str], tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    finished = run([sys.executable, ROOT / "examples" / "demo.py", *kind, text], tmp_path)
    assert finished.returncode == 2
    assert "notes.txt is not a supported image" in finished.stderr
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
    assert "The server reports: " in finished.stderr


def test_python_client_with_the_official_sdk(model: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(png(drawn("blue", "circle", "red")))
    finished = run(
        [python_environment("mcp2"), ROOT / "examples" / "python_client.py", image],
        tmp_path,
        **model,
    )
    assert finished.returncode == 0, finished.stderr
    assert "red" in finished.stdout.lower()


def test_python_client_has_a_drawing_of_its_own(model: dict[str, str], tmp_path: Path) -> None:
    finished = run([python_environment("mcp2"), ROOT / "examples" / "python_client.py"], tmp_path, **model)
    assert finished.returncode == 0, finished.stderr
    assert "red square" in finished.stdout.lower()


def test_python_client_says_which_image_is_missing_or_none(tmp_path: Path) -> None:
    client, text = ROOT / "examples" / "python_client.py", tmp_path / "notes.txt"
    text.write_text("no image")
    missing = run([python_environment("mcp2"), client, tmp_path / "none.png"], tmp_path)
    assert missing.returncode == 2
    assert "none.png" in missing.stderr
    shutil.rmtree(tmp_path / "bin")
    refused = run([python_environment("mcp2"), client, text], tmp_path)
    assert refused.returncode == 1
    assert "The server reports: " in refused.stderr
    assert "None" not in refused.stdout
