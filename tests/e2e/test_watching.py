"""Videos through the real server and the real engine with the bundled model: clips that the tests draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.e2e import tiny_models
from tests.e2e.clips import CHANGE_S, END_S, clip
from tests.e2e.conftest import DEMO_MODEL
from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import check_result, text_of
from tests.unit.media.hostile_files import swollen_mp4s
from tests.unit.media.sample_media import audio_file, video_file

pytestmark = pytest.mark.skipif(
    not (DEMO_MODEL / "model.safetensors").exists(), reason="the bundled model is not there"
)
EDGE_S = 0.002
"""Times are rounded to milliseconds."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The clip as a file."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    path.write_bytes(clip())
    return str(path)


def watch(server: ServerProcess, path: str, query: str, **arguments: Any) -> Json:
    return server.result("analyze_video", {"video_path": path, "query": query, **arguments})


def refusal(server: ServerProcess, **arguments: Any) -> str:
    result = server.call("analyze_video", arguments)["result"]
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    assert "Traceback" not in text
    server.assert_serves()
    return text


@pytest.mark.parametrize("max_frames", [4, 7, 16, 100])
def test_the_change_is_found_within_half_a_step(demo_server: ServerProcess, path: str, max_frames: int) -> None:
    for query, begins_s, ends_s in (("red circle", 0.0, CHANGE_S), ("blue square", CHANGE_S, END_S)):
        result = watch(demo_server, path, query, max_frames=max_frames)
        (span,) = result["found"]
        step_s = result["sampling_step_s"]
        assert step_s == pytest.approx(END_S / max_frames, abs=0.041)
        assert span["start_s"] == pytest.approx(begins_s, abs=step_s / 2 + EDGE_S)
        assert span["end_s"] == pytest.approx(ends_s, abs=step_s / 2 + EDGE_S)
        assert span["probability"] > 0.9
        assert len(result["frames"]) == max_frames
        assert all(frame["relevant"] is (begins_s <= frame["time_s"] < ends_s) for frame in result["frames"])
    assert watch(demo_server, path, "green triangle", max_frames=max_frames)["found"] == []


def test_a_closer_look_gives_the_very_frame(demo_server: ServerProcess, path: str) -> None:
    coarse = watch(demo_server, path, "blue square", max_frames=4)
    edge_s, step_s = coarse["found"][0]["start_s"], coarse["sampling_step_s"]
    close = watch(
        demo_server, path, "blue square", max_frames=64, start_s=edge_s - step_s / 2, end_s=edge_s + step_s / 2
    )
    assert close["found"][0]["start_s"] == pytest.approx(CHANGE_S, abs=EDGE_S)


@pytest.mark.parametrize(
    ("codec", "format"), [("libx265", "mp4"), ("mpeg4", "mp4"), ("libvpx-vp9", "webm"), ("mjpeg", "mov")]
)
def test_clips_of_other_formats_are_seen_too(
    demo_server: ServerProcess, tmp_path: Path, codec: str, format: str
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    (tmp_path / "clip").write_bytes(clip(codec, format, options))
    result = watch(demo_server, str(tmp_path / "clip"), "red circle", max_frames=6)
    assert result["found"][0]["end_s"] == pytest.approx(CHANGE_S, abs=result["sampling_step_s"] / 2 + EDGE_S)


def test_each_frame_is_described_and_the_answer_is_over_all(demo_server: ServerProcess, path: str) -> None:
    query = "What do these images show?"
    result = watch(demo_server, path, query, max_frames=2, per_frame=True, check_relevance=False)
    assert [frame["time_s"] for frame in result["frames"]] == [1.48, 4.48]
    assert "red circle" in result["answer"].lower()
    assert "blue square" in result["answer"].lower()
    each = watch(demo_server, path, "What is in this image?", max_frames=6, per_frame=True)
    for frame in each["frames"]:
        assert ("red circle" if frame["time_s"] < CHANGE_S else "blue square") in frame["description"].lower()
        assert (frame["finish_reason"], frame["error"]) == ("stop", None)
    assert each["answer"]
    assert each["error"] is None
    assert each["usage"]["image_tokens"] > 0


def test_result_is_what_its_schema_says(demo_server: ServerProcess, path: str) -> None:
    (tool,) = (each for each in demo_server.request("tools/list")["result"]["tools"] if each["name"] == "analyze_video")
    answer = demo_server.call("analyze_video", {"video_path": path, "query": "red circle", "max_frames": 3})
    result = check_result("tools/call", "2025-11-25", answer)
    jsonschema.Draft202012Validator(tool["outputSchema"]).validate(result["structuredContent"])
    assert json.loads(text_of(answer)) == result["structuredContent"]
    assert result["structuredContent"]["video"] == {
        "video": path,
        "duration_s": END_S,
        "fps": 25.0,
        "n_frames": 150,
        "width": 240,
        "height": 240,
        "has_audio": False,
    }


# Videos and spans that cannot be looked at


def test_files_that_are_no_video_are_refused_and_the_next_is_served(
    demo_server: ServerProcess, tmp_path: Path, path: str
) -> None:
    files = {
        "audio.mp3": (audio_file("mp3", "libmp3lame"), "There is no video in this file"),
        "text.mp4": (b"no video at all", "not video in a supported format"),
        "cut.mp4": (Path(path).read_bytes()[:900], "damaged or cut off"),
        "empty.mkv": (video_file("matroska", "mpeg4", frames=0, audio="flac", audio_s=1), "damaged"),
        **{f"hostile{number}.mp4": (data, "") for number, data in enumerate(swollen_mp4s().values())},
    }
    for name, (data, words) in files.items():
        (tmp_path / name).write_bytes(data)
        text = refusal(demo_server, video_path=str(tmp_path / name), query="red circle")
        assert text.startswith("arguments.video_path: "), name
        assert words in text, name
    for reference, words in {
        str(tmp_path): "is a folder",
        "/dev/zero": "is a device",
        "http://169.254.169.254/a.mp4": "not on the public internet",
        "http://user:secret@example.com/a.mp4": "user name or password",
    }.items():
        text = refusal(demo_server, video_path=reference, query="red circle")
        assert words in text
        assert "secret" not in text
    assert watch(demo_server, path, "red circle", max_frames=2)["found"]


def test_a_cut_video_is_seen_as_far_as_it_goes(demo_server: ServerProcess, tmp_path: Path) -> None:
    whole = clip(format="matroska", options={"g": "10"})
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 4 // 5])
    result = watch(demo_server, str(tmp_path / "cut.mkv"), "red circle", max_frames=8)
    assert 0 < result["video"]["duration_s"] < END_S
    assert result["found"][0]["start_s"] == 0.0


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ({"start_s": 2, "end_s": 1}, "arguments.end_s: 1 is not behind start_s, 2"),
        ({"start_s": 1, "end_s": 1}, "arguments.end_s: 1 is not behind start_s, 1"),
        ({"start_s": 6}, "The video ends at 6.000 s"),
        ({"start_s": 1e9}, "The video ends at 6.000 s"),
        ({"start_s": -1}, "arguments.start_s"),
        ({"max_frames": 1_000}, "arguments.max_frames"),
        ({"model": "other"}, "no model 'other'"),
        ({"include_speech": True}, "arguments.include_speech: no speech model is configured. Set VLLM_ASR_MODEL"),
    ],
)
def test_impossible_arguments_are_refused(demo_server: ServerProcess, path: str, span: Json, words: str) -> None:
    assert words in refusal(demo_server, video_path=path, query="red circle", **span)


def test_model_without_eyes_says_so(path: str) -> None:
    environment = {"VLLM_MODEL_NAME": str(tiny_models.text_model()), "VLLM_CPU_KVCACHE_SPACE": "0.125"}
    with ServerProcess(environment) as server:
        server.initialize()
        for max_frames in (1, 3):
            text = refusal(server, video_path=path, query="What?", max_frames=max_frames)
            assert "does not accept images" in text


# Deadlines, cancelling, jobs


def test_at_its_deadline_a_call_has_the_results_so_far(demo_server: ServerProcess, path: str) -> None:
    result = watch(demo_server, path, "red circle", max_frames=150, per_frame=True, timeout_s=3)
    assert len(result["frames"]) == 150
    assert result["status"] in ("done", "running")
    if result["status"] == "done":
        assert any("time was up" in (frame["error"] or "") for frame in result["frames"]) is (
            result["error"] is not None
        )
    demo_server.call("cancel_batch", {"batch_id": result["job_id"]})
    assert watch(demo_server, path, "red circle", max_frames=2)["found"]


def test_cancelled_call_gets_no_answer_and_frees_the_engine(demo_server: ServerProcess, path: str) -> None:
    request_id = demo_server.send_call(
        "analyze_video",
        {"video_path": path, "query": "red circle", "max_frames": 150, "per_frame": True},
        meta={"progressToken": 7},
    )
    assert demo_server.read_message(LOAD_S)["method"] == "notifications/progress"
    demo_server.notify("notifications/cancelled", {"requestId": request_id})
    next_id = demo_server.send_call("list_jobs", {"limit": 1})
    while "method" in (message := demo_server.read_message()):
        pass
    assert message["id"] == next_id
    assert watch(demo_server, path, "red circle", max_frames=2)["found"]
    (job,) = demo_server.result("list_jobs", {"status": "cancelled", "limit": 1})["jobs"]
    assert job["kind"] == "watching"


def test_progress_counts_frames(demo_server: ServerProcess, path: str) -> None:
    demo_server.send_call(
        "analyze_video",
        {"video_path": path, "query": "red circle", "max_frames": 8, "per_frame": True},
        request_id="p",
        meta={"progressToken": 1},
    )
    told = []
    while "method" in (message := demo_server.read_message(LOAD_S)):
        told.append(message["params"])
    assert message["id"] == "p"
    figures = [params["progress"] for params in told]
    assert figures == sorted(set(figures))
    assert (told[-1]["progress"], told[-1]["total"]) == (16, 16)


def test_an_analysis_goes_on_as_a_job(demo_server: ServerProcess, path: str) -> None:
    arguments = {"video_path": path, "query": "red circle", "max_frames": 150, "per_frame": True, "wait_s": 0}
    answer = demo_server.call("analyze_video", arguments)["result"]
    running = answer["structuredContent"]
    assert running["status"] == "running"
    assert running["job_id"] in answer["content"][0]["text"]
    done = demo_server.call("job_status", {"job_id": running["job_id"], "wait_s": LOAD_S}, timeout_s=LOAD_S)["result"]
    result = json.loads(done["content"][0]["text"])
    assert result["status"] == "done"
    assert result["found"][0]["end_s"] == pytest.approx(CHANGE_S, abs=EDGE_S)
    assert result["sampling_step_s"] == pytest.approx(0.04, abs=EDGE_S)
