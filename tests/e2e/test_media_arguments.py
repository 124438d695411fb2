"""Each argument that names media, with files that no tool can use: an error at once, and nothing of them is told."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.images import drawn, png
from tests.e2e.media_arguments import CLIP, IMAGE, NEEDED, VOICE
from tests.e2e.server_process import ServerProcess
from tests.scripted_omni import ScriptedOmni
from tests.scripted_openai import ScriptedOpenAI
from tests.scripted_speech import ScriptedSpeechServer
from tests.scripted_video import FROM_WORDS_MODEL, ScriptedVideoServer
from tests.unit.media.hostile_files import huge_tile, swollen_mp4s
from tests.unit.media.sample_media import audio_file, video_file

Json = dict[str, Any]
SECRET = "correct horse battery staple"
AT_ONCE_S = 20.0
"""On a busy machine, and with the children that look at hostile files."""
REFERENCES = (
    *("/nowhere/at/all.png", "relative.png", "/etc/passwd", "/dev/zero", "/proc/self/environ", "\0", "-i", "x" * 5_000),
    *("file://host/a.png", "data:image/png;base64,AAAA", "data:,", "ftp://127.0.0.1/", "http://127.0.0.1:9/a.png"),
    *("image_0123456789abcdef", "image_0123456789abcdef#9", "concat:/etc/passwd"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Good files by the names that stand for them, and bad ones."""
    folder = tmp_path_factory.mktemp("media")
    content = {
        IMAGE: png(drawn("blue", "circle", "red")),
        VOICE: audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=1),
        CLIP: video_file(size=(96, 64), frames=24, audio="aac"),
        "empty.png": b"",
        "secret.png": SECRET.encode(),
        "secret.wav": b"RIFF\xff\xff\xff\xffWAVE" + SECRET.encode(),
        "tile.tif": huge_tile(),
        "tables.mp4": swollen_mp4s()["stsz of several tracks"],
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    return {name: str(folder / name) for name in (*content, "pipe.png", "folder.png")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    out = tmp_path_factory.mktemp("out")
    with (
        ScriptedOmni() as omni,
        ScriptedVideoServer() as portraits,
        ScriptedVideoServer(FROM_WORDS_MODEL) as videos,
        ScriptedSpeechServer() as voices,
        ScriptedOpenAI() as models,
    ):
        settings = {
            "OMNI_URL": omni.url,
            "OMNI_VIDEO_URL": portraits.url,
            "OMNI_VIDEO_MODELS": f"words={videos.url}",
            "OMNI_SPEECH_URL": voices.url,
            "OMNI_OUTPUT_DIR": str(out),
            "VLLM_BASE_URL": models.url,
        }
        with ServerProcess(settings) as process:
            process.initialize()
            yield process


def filled(value: Any, files: Mapping[str, str]) -> Any:
    """An argument with the paths of files in place of their names."""
    if isinstance(value, list):
        return [filled(each, files) for each in value]
    return files.get(value, value)


def is_refused(result: Json) -> bool:
    """Whether a result is an error, or has one for the reference."""
    if result["isError"]:
        return True
    facts = json.loads(result["content"][0]["text"])
    return bool(facts.get("errors") or [entry for entry in facts.get("results", []) if entry.get("error")])


@pytest.mark.parametrize("argument", NEEDED, ids=" ".join)
def test_no_tool_takes_what_is_no_media(
    server: ServerProcess, files: Mapping[str, str], argument: tuple[str, str]
) -> None:
    tool, name = argument
    others = {key: filled(value, files) for key, value in NEEDED[argument].items()}
    bad = [path for key, path in files.items() if key not in (IMAGE, VOICE, CLIP)]
    for reference in (*REFERENCES, *bad):
        began_s = time.monotonic()
        given = [reference] if name.endswith("s") else reference
        answer = server.call(tool, {**others, name: given})
        assert time.monotonic() - began_s < AT_ONCE_S, reference
        text = str(answer)
        assert is_refused(answer["result"]), (reference, text)
        assert not any(word in text for word in ("Traceback", "root:", "LOGNAME=", SECRET)), (reference, text)
    server.assert_serves()
