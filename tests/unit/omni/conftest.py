"""A scripted vLLM-Omni server, and what makes images with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from media.decoding.audio import DecodedAudio, decode_audio
from omni import client as client_module
from omni.client import GeneratedImage, OmniClient
from omni.files.output_folder import OutputFolder
from omni.images.generate import ImageMaker
from omni.images.profiles import ProfileBook
from omni.jobs.jobs import Jobs
from omni.video import server_jobs
from omni.video.generate import VideoMaker
from omni.video.servers import VideoServers
from tests.decoder import DECODER
from tests.scripted_omni import ScriptedOmni
from tests.scripted_video import ScriptedVideoServer
from tests.unit.media.sample_media import audio_file

FIELDS: dict[str, Any] = {"prompt": "a", "size": "64x64", "seed": 5}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long before it asks again."""
    monkeypatch.setattr(client_module, "PAUSES_S", (0.01, 0.01))


@pytest.fixture
def omni() -> Iterator[ScriptedOmni]:
    """A running server."""
    with ScriptedOmni() as server:
        yield server


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    """Jobs that end with the test."""
    made = Jobs(ttl_s=3600)
    yield made
    made.close()


@pytest.fixture
def maker(omni: ScriptedOmni, jobs: Jobs, tmp_path: Path) -> ImageMaker:
    """Makes images with the scripted server, within 5 seconds each."""
    return ImageMaker(OmniClient(omni.url, 5.0), ProfileBook(), OutputFolder(str(tmp_path / "out")), jobs, DECODER)


@pytest.fixture
def video_server() -> Iterator[ScriptedVideoServer]:
    """A running server of talking video."""
    with ScriptedVideoServer() as server:
        yield server


@pytest.fixture
def video_maker(video_server: ScriptedVideoServer, jobs: Jobs, tmp_path: Path) -> VideoMaker:
    """Makes videos with the scripted server, within 5 seconds each."""
    servers = VideoServers(video_server.url, {}, 5.0, None)
    return VideoMaker(servers, OutputFolder(str(tmp_path / "out")), jobs, 5.0, DECODER)


@pytest.fixture
def client(omni: ScriptedOmni, jobs: Jobs) -> Iterator[OmniClient]:
    """A client of the scripted server."""
    made = OmniClient(omni.url, timeout_s=5.0)
    yield made
    jobs.ask(made.close())


def generated(client: OmniClient, jobs: Jobs) -> GeneratedImage:
    """An image by `FIELDS`."""
    return jobs.ask(client.generate(FIELDS, 64 * 64))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks more often than one would ask a server that makes real videos."""
    monkeypatch.setattr(server_jobs, "POLL_S", 0.01)
    monkeypatch.setattr(server_jobs, "MAX_POLL_S", 0.05)


@pytest.fixture(scope="session")
def voice() -> DecodedAudio:
    """A second of audio."""
    return decode_audio(audio_file(seconds=1), 9)
