"""Videos that fail: what callers read, what is left on the server, and what is tried again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from media.decoding.audio import DecodedAudio
from omni.errors import OutputFailed, ServerRefused, ServerUnreachable
from omni.files.output_folder import OutputFolder
from omni.jobs.job import State
from omni.jobs.jobs import Jobs
from omni.video.generate import VideoMaker
from omni.video.servers import VideoServers
from tests.decoder import DECODER
from tests.scripted_omni import Route, answers, hangs_up, refuses
from tests.scripted_video import NOT_FOUND, ScriptedVideoServer, failed, job_json
from tests.unit.media.sample_media import audio_file, video_file
from tests.unit.omni.video_samples import WAIT_S, begun, files_in, made, wait_for_polls

pytestmark = pytest.mark.slow

WHOLE = video_file(frames=20, audio="aac")


@pytest.mark.parametrize(
    ("step", "route", "text"),
    [
        ("content", answers(b""), "video is incomplete"),
        ("content", answers(b"<html>"), "video is incomplete"),
        ("content", answers(WHOLE[:-500]), "video is incomplete"),
        ("content", answers(audio_file("ipod", "aac")), "no video in this file"),
        ("content", refuses(404, "Generation is still in-progress"), "HTTP 404"),
        ("content", hangs_up, "was lost"),
        ("submit", refuses(400, "size: String should match"), "HTTP 400"),
        ("submit", refuses(503, "not initialized"), "HTTP 503"),
        ("submit", answers(b"[]"), "OMNI_VIDEO_URL"),
        ("submit", answers(job_json("../../etc", "queued")), "invalid job id"),
        ("submit", hangs_up, "was lost"),
        ("submit", answers(b"", 307, Location="http://169.254.169.254/"), "redirects"),
        ("job", failed("No reference image provided."), "HTTP 500): No reference image provided"),
        ("job", failed("bad size", 422), "HTTP 422): bad size"),
        ("job", failed("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        ("job", failed("at /home/you/model/x.py: 0x7f00deadbeef"), "at …: …"),
        ("job", answers(NOT_FOUND, 404), "no longer has the video"),
        ("job", refuses(401, "Unauthorized"), "OMNI_API_KEY"),
        ("job", answers(b"<html>", 200), "list_available_models"),
        ("job", refuses(500, "boom"), "HTTP 500): boom"),
        ("job", hangs_up, "stopped responding during the generation"),
    ],
)
def test_failures_are_told_and_leave_nothing(
    video_maker: VideoMaker,
    video_server: ScriptedVideoServer,
    jobs: Jobs,
    voice: DecodedAudio,
    tmp_path: Path,
    step: str,
    route: Route,
    text: str,
) -> None:
    video_server.step(step, route)
    job = made(video_maker, jobs, voice)
    error = str(job.items[0].error)
    assert job.state is State.FAILED
    assert text in error
    assert "0x7f00" not in error
    assert files_in(tmp_path) == []
    assert video_server.deleted == ([] if step == "submit" else ["video_gen_1"])


def test_questions_that_get_lost_now_and_then_do_no_harm(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    running = answers(job_json("video_gen_1", "in_progress"))
    done = answers(job_json("video_gen_1", "completed"))
    video_server.step("job", hangs_up, hangs_up, running, hangs_up, hangs_up, running, done)
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 529])
def test_gateway_that_loses_the_server_for_a_moment_does_no_harm(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, status: int
) -> None:
    lost = answers(b"<html><title>Tunnel asleep</title></html>", status)
    done = answers(job_json("video_gen_1", "completed"))
    video_server.step("job", lost, lost, lost, lost, done)
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED
    video_server.step("job", lost)
    assert f"HTTP {status}): Tunnel asleep" in str(made(video_maker, jobs, voice).items[0].error)


@pytest.mark.parametrize("word", ["failed", "ERROR", "cancelled", "expired"])
def test_any_word_for_a_failed_job(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, word: str
) -> None:
    video_server.step("job", answers(json.dumps({"status": word, "error": "No face."}).encode()))
    assert "No face." in str(made(video_maker, jobs, voice).items[0].error)


def test_video_that_is_made_is_fetched_again_where_that_breaks(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.step("content", hangs_up, answers(WHOLE))
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED
    video_server.step("content", answers(b"", 503), answers(WHOLE))
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED


def test_video_is_asked_for_again_only_where_the_server_has_not_begun(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.step("submit", refuses(503, "busy"), answers(job_json("video_gen_1", "queued")))
    video_server.jobs["video_gen_1"] = 0
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED
    assert len(video_server.submitted) == 2
    video_server.step("submit", refuses(504, "gave up"))
    assert "may still be generating" in str(made(video_maker, jobs, voice).items[0].error)
    assert len(video_server.submitted) == 3


def test_server_that_dies_in_the_middle_is_given_up_soon(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    video_server.n_polls = 10_000
    job = begun(video_maker, jobs, voice)
    wait_for_polls(video_server, 3)
    video_server.socket.close()  # nobody listens any more
    video_server.step("job", hangs_up)
    assert job.wait(WAIT_S)
    assert "stopped responding" in str(job.items[0].error)
    assert files_in(tmp_path) == []


def test_time_is_bounded(video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path) -> None:
    video_server.n_polls = 10_000
    servers = VideoServers(video_server.url, {}, 0.3, None)
    job = made(VideoMaker(servers, OutputFolder(str(tmp_path / "out")), jobs, 0.3, DECODER), jobs, voice)
    assert "did not finish the video within 0.3 s" in str(job.items[0].error)
    assert video_server.deleted == ["video_gen_1"]


def test_folder_that_cannot_be_written_is_found_before_anything_is_made(
    video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    maker = VideoMaker(
        VideoServers(video_server.url, {}, 5.0, None), OutputFolder(str(tmp_path / "out")), jobs, 5.0, DECODER
    )
    with pytest.raises(OutputFailed):
        begun(maker, jobs, voice)


def test_server_that_makes_something_else_is_refused_with_what_would_do(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.model = "black-forest-labs/FLUX.2-klein-4B"
    with pytest.raises(ServerRefused, match=r"FLUX\.2-klein-4B, which does not .*Wan2\.2-S2V-14B.*LongCat"):
        begun(video_maker, jobs, voice)


def test_server_that_is_down(jobs: Jobs, voice: DecodedAudio, tmp_path: Path) -> None:
    maker = VideoMaker(
        VideoServers("http://127.0.0.1:9", {}, 5.0, None), OutputFolder(str(tmp_path)), jobs, 5.0, DECODER
    )
    with pytest.raises(ServerUnreachable, match="list_available_models"):
        begun(maker, jobs, voice)


def test_video_that_cannot_be_saved_stays_on_the_server(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    def breaks_the_folder(request: Any, fields: Any) -> None:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").write_bytes(b"")
        answers(WHOLE)(request, fields)

    video_server.step("content", breaks_the_folder)
    job = made(video_maker, jobs, voice)
    assert job.state is State.FAILED
    error = str(job.items[0].error)
    assert "a file of that name exists" in error
    assert f"the server keeps it for a while: {video_server.url}/v1/videos/video_gen_1/content" in error
    assert video_server.deleted == []
