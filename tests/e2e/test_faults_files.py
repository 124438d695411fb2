"""Disks that are full or read-only, and a file of sessions that is locked, damaged or not ours."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.images import asked, drawn, image_part
from tests.e2e.injections import MIB, as_seen_by, read_only, small_disk
from tests.e2e.server_process import LOAD_S, SERVER, Json, ServerProcess
from tests.mcp_results import text_of
from tests.scripted_omni import Request, ScriptedOmni, images_json
from tests.scripted_openai import ScriptedOpenAI
from tests.scripted_speech import ScriptedSpeechServer
from tests.scripted_video import FROM_WORDS_MODEL, ScriptedVideoServer
from tests.unit.media.sample_media import audio_file

SHORT: Json = {"temperature": 0, "max_tokens": 2}
NOISE_BYTES = 192 * 192 * 3
VERSION_AT = 60
"""Where a SQLite file has the version of its tables."""


def noise(request: Request, fields: Json) -> None:
    """Answers with an image that no compression makes smaller."""
    image = Image.frombytes("RGB", (192, 192), random.Random(fields["seed"]).randbytes(NOISE_BYTES))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    request.answer(images_json(buffer.getvalue()))


@pytest.fixture(scope="module")
def omni() -> Iterator[ScriptedOmni]:
    with ScriptedOmni() as server:
        server.script(noise)
        yield server


# The output folder


def test_full_disk_is_told_leaves_nothing_half_written_and_takes_files_again_when_there_is_room(
    omni: ScriptedOmni, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    settings = {"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(folder)}
    with ServerProcess(settings, wrapper=small_disk(folder, MIB // 2)) as server:
        server.initialize()
        answer = server.call("batch_generate", {"prompts": ["a"] * 6, "width": 192, "height": 192})
        assert "the disk is full" in answer["result"]["content"][0]["text"]
        seen = as_seen_by(server, folder)
        whole = sorted(seen.iterdir())
        assert 1 <= len(whole) < 6
        for path in whole:
            with Image.open(path) as shown:
                shown.load()
        assert [path.suffix for path in whole] == [".png"] * len(whole)
        again = server.call("generate_image", {"prompt": "b", "width": 192, "height": 192})
        # There is room for the trial before, and not for the image: it is shown, since it was made.
        text, image = again["result"]["content"]
        assert json.loads(text["text"])["status"] == "not_saved"
        assert "the disk is full" in text["text"]
        assert image["type"] == "image"
        whole[0].unlink()
        assert not server.call("generate_image", {"prompt": "c", "width": 192, "height": 192})["result"]["isError"]
        assert len(list(seen.iterdir())) == len(whole)
    assert list(folder.iterdir()) == [], "it was the server's disk alone that was full"


def test_read_only_folder_is_told_before_anything_is_generated(omni: ScriptedOmni, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    settings = {"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(folder)}
    with ServerProcess(settings, wrapper=read_only(folder)) as server:
        n_before = len(omni.generations())
        answer = server.call("generate_image", {"prompt": "b", "width": 192, "height": 192})
        assert answer["result"]["isError"]
        assert "may not be written" in text_of(answer) or "read-only" in text_of(answer), text_of(answer)
        assert len(omni.generations()) == n_before


# The file of the sessions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / "sessions.db"


@pytest.fixture(scope="module")
def model_server() -> Iterator[ScriptedOpenAI]:
    """Answers at once: what becomes of the file does not depend on who answers."""
    with ScriptedOpenAI() as server:
        yield server


@pytest.fixture
def stored(model_server: ScriptedOpenAI, path: Path) -> dict[str, str]:
    return {"VLLM_BASE_URL": f"{model_server.url}/v1", "VLLM_SESSION_DB": str(path)}


@contextlib.contextmanager
def started(settings: dict[str, str], wrapper: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """A server that has shaken hands."""
    with ServerProcess(settings, wrapper=wrapper) as server:
        server.initialize()
        yield server


def turn(server: ServerProcess, number: int, session_id: str = "s") -> Json:
    """One turn with an image of its own of 190 kB, which its file holds as it is."""
    image = drawn("green", size=250)
    image.paste(Image.frombytes("RGB", (200, 200), random.Random(number).randbytes(120_000)))
    arguments = {"messages": asked(f"Turn {number}", image_part(image)), "session_id": session_id, **SHORT}
    return server.result("chat_completion", arguments)


def said(server: ServerProcess) -> Json:
    """All messages of the session."""
    shown: Json = server.result("get_session", {"session_id": "s", "limit": 100})["messages"]
    return shown


def n_messages(server: ServerProcess, session_id: str = "s") -> int:
    """How many messages a session has."""
    total: int = server.result("get_session", {"session_id": session_id})["total_messages"]
    return total


def test_full_disk_costs_no_turn_and_gets_them_all_when_there_is_room(
    stored: dict[str, str], path: Path, tmp_path: Path
) -> None:
    with started(stored, small_disk(path.parent, 3 * MIB)) as server:
        seen = as_seen_by(server, path)
        filler = seen.with_name("filler")
        assert turn(server, 0)["store_problem"] is None
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        for number in range(1, 4):
            result = turn(server, number)
            assert result["session_messages"] == 2 * number + 2
        assert "kept in memory" in result["store_problem"]
        assert n_messages(server) == 8
        filler.unlink()
        assert turn(server, 4)["store_problem"] is None
        held = said(server)
        shutil.copytree(seen.parent, tmp_path / "copied")
    with started({**stored, "VLLM_SESSION_DB": str(tmp_path / "copied" / path.name)}) as server:
        assert said(server) == held, "what a kill leaves is all of it"


def test_read_only_folder_costs_no_turn_and_what_is_in_it_is_read(stored: dict[str, str], path: Path) -> None:
    with started(stored) as server:
        turn(server, 0)
        server.close_stdin()
        assert server.wait() == 0
    before = path.read_bytes()
    with started(stored, read_only(path.parent)) as server:
        first = turn(server, 1, "new")
        assert "kept in memory" in first["store_problem"]
        assert turn(server, 2, "new")["session_messages"] == 4
        server.assert_serves()
    assert path.read_bytes() == before
    with started(stored) as server:
        assert n_messages(server) == 2


def test_file_that_another_process_has_locked_costs_no_turn_and_gets_them_later(
    stored: dict[str, str], path: Path
) -> None:
    with started(stored) as server:
        turn(server, 0)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert "kept in memory" in turn(server, 1)["store_problem"]
            assert turn(server, 2)["session_messages"] == 6
            other.execute("ROLLBACK")
        assert turn(server, 3)["store_problem"] is None
        server.close_stdin()
        assert server.wait() == 0
    with started(stored) as server:
        assert n_messages(server) == 8


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path: Path) -> None:
    with open(path, "r+b") as file:
        for at in range(4096, path.stat().st_size, 1500):
            file.seek(at)
            file.write(b"\x13" * 1000)


def from_a_newer_server(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(VERSION_AT)
        file.write(struct.pack(">i", 99))


@pytest.mark.parametrize(
    ("damage", "in_use"),
    [(cut_off, False), (cut_off, True), (overwritten, False), (overwritten, True), (from_a_newer_server, False)],
)
def test_file_that_cannot_be_read_is_left_or_set_aside_and_the_server_goes_on(
    stored: dict[str, str], path: Path, damage: Callable[[Path], None], in_use: bool
) -> None:
    with started(stored) as server:
        turn(server, 0)
        if not in_use:
            server.close_stdin()
            assert server.wait() == 0
            damage(path)
            damaged = path.read_bytes()
    if in_use:
        with started(stored) as server:
            assert n_messages(server) == 2
            damage(path)
            turn(server, 1)
            assert turn(server, 2, "other")["session_messages"] == 2
            assert turn(server, 3, "other")["session_messages"] == 4
    else:
        with started(stored) as server:
            assert turn(server, 1, "other")["session_messages"] == 2
            assert damaged in [file.read_bytes() for file in path.parent.iterdir()], "nothing is thrown away"
    with started(stored) as server:
        assert n_messages(server, "other") == (4 if in_use else 2)


def test_log_on_a_full_disk_stops_nothing(model: dict[str, str]) -> None:
    settings = {**model, "VLLM_CPU_KVCACHE_SPACE": "0.25", "VLLM_LOG_FILE": "/dev/full", "VLLM_LOG_LEVEL": "DEBUG"}
    with started(settings) as server:
        assert server.result("chat_completion", {"messages": asked("Hello"), **SHORT})["text"]
        server.close_stdin()
        assert server.wait() == 0


def test_video_on_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    voice = tmp_path / "voice.mp3"
    voice.write_bytes(audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=1))
    face = tmp_path / "face.png"
    drawn(size=64).save(face)
    with ScriptedVideoServer() as videos:
        settings = {"OMNI_VIDEO_URL": videos.url, "OMNI_OUTPUT_DIR": str(folder)}
        with ServerProcess(settings, wrapper=small_disk(folder, 8192)) as server:
            arguments = {"image_path": str(face), "audio_path": str(voice)}
            answer = server.call("process_image_to_video", arguments)
            assert answer["result"]["isError"]
            assert "the disk is full" in text_of(answer)
            assert list(as_seen_by(server, folder).iterdir()) == []


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("generate_speech", {"text": "Good morning to everybody."}),
        ("generate_video", {"prompt": "a ball", "width": 64, "height": 64, "num_frames": 9, "num_inference_steps": 2}),
    ],
    ids=["speech", "video from words"],
)
def test_speech_or_video_on_a_full_disk_is_told_and_written_when_there_is_room(
    tmp_path: Path, tool: str, arguments: Json
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with ScriptedSpeechServer() as voices, ScriptedVideoServer(FROM_WORDS_MODEL) as videos:
        settings = {
            "OMNI_SPEECH_URL": voices.url,
            "OMNI_VIDEO_URL": videos.url,
            "OMNI_OUTPUT_DIR": str(folder),
        }
        with ServerProcess(settings, wrapper=small_disk(folder, MIB)) as server:
            seen = as_seen_by(server, folder)
            server.initialize()
            filling = seen / "filling"
            with contextlib.suppress(OSError), open(filling, "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            answer = server.call(tool, arguments)
            assert answer["result"]["isError"]
            assert "the disk is full" in text_of(answer)
            assert list(seen.iterdir()) == [filling]
            filling.unlink()
            assert not server.call(tool, arguments)["result"]["isError"]
            assert len(list(seen.iterdir())) == 1


# The files of clients


@pytest.mark.parametrize("room_bytes", [0, 4096], ids=["no room for the copy", "no room for the new file"])
def test_entry_on_a_full_disk_leaves_the_clients_file_as_it_was(tmp_path: Path, room_bytes: int) -> None:
    folder = tmp_path / ".cursor"
    folder.mkdir()
    before = json.dumps({"mcpServers": {"other": {"command": "x" * 3000}}})
    script = """
        cd "$1"
        printf %s "$2" >mcp.json
        head -c "$3" /dev/zero >room
        cat /dev/zero >filling
        rm room
        "$4" "$5" --install cursor --yes >&2
        echo "$?"
        cat mcp.json
        echo
        ls -A
    """
    words = (str(folder), before, str(room_bytes), sys.executable, str(SERVER))
    done = subprocess.run(
        [*small_disk(folder, 64 * 1024), "sh", "-c", script, "sh", *words],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=LOAD_S,
        check=False,
    )
    assert done.stdout.splitlines() == ["1", before, "filling", "mcp.json"], done.stderr
    assert "Cannot write" in done.stderr
    assert "No space left on device" in done.stderr
