"""The real server with files that are made to take all memory or hours: one error each, and the next is served."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omni.files.metadata import with_png_text
from tests.e2e.processes import assert_all_end, children_of
from tests.e2e.server_process import ServerProcess
from tests.scripted_omni import png as picture
from tests.scripted_speech import ScriptedSpeechServer
from tests.unit.media.hostile_files import empty_scans, exif_pieces, huge_tile, jpeg, overlapping_strips, swollen_mp4s

CALL_TIMEOUT_S = 2
SERVED_S = 15.0
MAX_GROWTH_BYTES = 150 << 20
"""Of the server alone: it holds the file, and Pillow's modules."""
MAX_IN_ALL_BYTES = 350 << 20
FILES: dict[str, Callable[[], bytes]] = {
    "tables of an MP4": lambda: swollen_mp4s()["stsz of several tracks"],
    "runs of a fragment": lambda: swollen_mp4s()["several runs"],
    "tile": huge_tile,
    "strips": overlapping_strips,
    "scans": empty_scans,
    "EXIF data": exif_pieces,
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess({"VLLM_CALL_TIMEOUT": str(CALL_TIMEOUT_S)}) as process:
        process.initialize()
        process.call("validate_multimodal_request", {"prompt": "a"})
        yield process


def resident(server: ServerProcess) -> int:
    """The memory of the server and of its children."""
    total = server.resident_bytes()
    for child in children_of(server.pid):
        try:
            status = Path(f"/proc/{child.pid}/statm").read_text()
        except OSError:
            continue
        total += int(status.split()[1]) * 4_096
    return total


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_costs_its_own_call_alone(server: ServerProcess, tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(FILES[name]())
    (tmp_path / "good.jpg").write_bytes(jpeg((40, 30), progressive=True))
    before, alone = resident(server), server.resident_bytes()
    began_s = time.monotonic()
    answer = server.call("validate_multimodal_request", {"prompt": "a", "file_paths": [str(path)]})["result"]
    assert resident(server) - before < MAX_IN_ALL_BYTES
    assert server.resident_bytes() - alone < MAX_GROWTH_BYTES
    assert "Traceback" not in str(answer)
    # Where the deadline answered, the child that works on the file still has to go.
    arguments = {"prompt": "a", "file_paths": [str(tmp_path / "good.jpg")]}
    while True:
        result = server.call("validate_multimodal_request", arguments)["result"]
        if not result["isError"]:
            break
        assert time.monotonic() - began_s < SERVED_S, result
    assert not result["structuredContent"]["errors"], result


@pytest.mark.parametrize("name", swollen_mp4s())
def test_a_hostile_video_that_is_watched_costs_its_own_call_alone(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(swollen_mp4s()[name])
    before, alone = resident(server), server.resident_bytes()
    answer = server.call("analyze_video", {"video_path": str(path), "query": "a", "max_frames": 256})["result"]
    assert resident(server) - before < MAX_IN_ALL_BYTES
    assert server.resident_bytes() - alone < MAX_GROWTH_BYTES
    assert answer["isError"]
    assert "Traceback" not in str(answer)
    server.assert_serves()


MARKED = with_png_text(picture(), {})
AFTER_MARK = MARKED.index(b"IDAT") - 4
OUTPUTS: dict[str, bytes] = {
    "text of 4 GB": MARKED[:AFTER_MARK] + b"\xff\xff\xff\xffiTXt" + bytes(100),
    "cut in its text": with_png_text(picture(), {"parameters": "{}" * 999})[:-2_000],
    "deep": with_png_text(picture(), {"parameters": '{"model":' * 50_000}),
    "long numbers": with_png_text(picture(), {"parameters": '{"seed":' + "9" * 300_000 + "}"}),
    "no text": MARKED,
}
"""Images in the output folder that have the mark of this server."""


def test_hostile_files_in_the_output_folder_cost_their_own_entry_alone(tmp_path: Path) -> None:
    for name, data in OUTPUTS.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    with (tmp_path / "10 GB.png").open("wb") as file:
        file.write(MARKED)
        file.truncate(10 << 30)
    (tmp_path / "foreign.png").write_bytes(picture())
    os.mkfifo(tmp_path / "fifo.png")
    with ServerProcess({"OMNI_OUTPUT_DIR": str(tmp_path), "OMNI_URL": "http://127.0.0.1:9"}) as server:
        server.initialize()
        server.result("list_images", {"limit": 1})
        before = server.resident_bytes()
        images = server.result("list_images")["images"]
        assert {Path(image["file_path"]).stem for image in images} == {*OUTPUTS, "10 GB"}
        assert {image["prompt"] for image in images} == {None}
        for path in sorted(tmp_path.iterdir()):
            answer = server.call("generate_image", {"like": str(path)})["result"]
            assert answer["isError"]
            assert answer["content"][0]["text"].startswith("arguments.like: ")
        assert server.resident_bytes() - before < 20 << 20


@pytest.mark.parametrize("name", ["tables of an MP4", "runs of a fragment", "scans"])
def test_a_hostile_recording_of_a_voice_costs_its_own_call_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(FILES[name]())
    environment = {"VLLM_CALL_TIMEOUT": str(CALL_TIMEOUT_S), "OMNI_OUTPUT_DIR": str(tmp_path / "out")}
    with ScriptedSpeechServer() as speech, ServerProcess({**environment, "OMNI_SPEECH_URL": speech.url}) as server:
        server.initialize()
        server.call("list_jobs", {})
        before, alone = resident(server), server.resident_bytes()
        answer = server.call("generate_speech", {"text": "Hello", "reference_audio": str(path)})["result"]
        assert resident(server) - before < MAX_IN_ALL_BYTES
        assert server.resident_bytes() - alone < MAX_GROWTH_BYTES
        assert answer["isError"]
        assert answer["content"][0]["text"].startswith("arguments.reference_audio: ")
        assert speech.said() == []
        server.assert_serves()


def test_children_are_gone_with_a_server_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "scans.jpg").write_bytes(empty_scans())
    with ServerProcess() as server:
        server.initialize()
        assert children_of(server.pid) == []
        server.send_call("validate_multimodal_request", {"prompt": "a", "file_paths": [str(tmp_path / "scans.jpg")]})
        until_s = time.monotonic() + SERVED_S
        while not (children := children_of(server.pid)) and time.monotonic() < until_s:
            time.sleep(0.01)
        assert children
        time.sleep(0.2)  # by then it decodes
        server.signal(signal.SIGKILL)
        assert_all_end(children)
