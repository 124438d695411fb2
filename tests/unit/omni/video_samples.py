"""Videos that a `VideoMaker` makes in tests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from PIL import Image

from media.decoding.audio import DecodedAudio
from omni.jobs.jobs import Jobs
from omni.video.generate import VideoMaker
from omni.video.parameters import VideoOptions
from tests.scripted_video import ScriptedVideoServer

WAIT_S = 15.0
SMALL = VideoOptions(width=64, height=48, num_inference_steps=2, seed=7)


def begun(maker: VideoMaker, jobs: Jobs, voice: DecodedAudio, wishes: VideoOptions = SMALL, **options: Any) -> Any:
    image = Image.new("RGB", (300, 200), "red")
    plan = jobs.ask(maker.plan("single_original", wishes, image.size, voice.duration_s, from_clip=False))
    return maker.start(plan, image, voice, filename=options.get("filename"))


def made(maker: VideoMaker, jobs: Jobs, voice: DecodedAudio, wishes: VideoOptions = SMALL, **options: Any) -> Any:
    job = begun(maker, jobs, voice, wishes, **options)
    assert job.wait(WAIT_S)
    return job


def files_in(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "out")) if (tmp_path / "out").exists() else []


def wait_for_polls(server: ScriptedVideoServer, n_polls: int) -> None:
    until_s = time.monotonic() + WAIT_S
    while sum(path.startswith("/v1/videos/") for _, path, _ in list(server.seen)) < n_polls:
        assert time.monotonic() < until_s
        time.sleep(0.005)
