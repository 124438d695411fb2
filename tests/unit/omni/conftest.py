"""A scripted vLLM-Omni server, and what makes pictures with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omni import attempts
from omni.client import OmniClient
from omni.files import OutputFolder
from omni.generate import ImageMaker
from omni.jobs import Jobs
from omni.profiles import ProfileBook
from omni.video import VideoMaker
from omni.video_servers import VideoServers
from tests.decoder import DECODER
from tests.scripted_omni import ScriptedOmni
from tests.scripted_video import ScriptedVideoServer


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long before it asks again."""
    monkeypatch.setattr(attempts, "PAUSES_S", (0.01, 0.01))


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
    """Makes pictures with the scripted server, within 5 seconds each."""
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
