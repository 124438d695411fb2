"""A scripted vLLM-Omni server, and what makes pictures with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omni.client import OmniClient
from omni.files import OutputFolder
from omni.generate import ImageMaker
from omni.jobs import Jobs
from omni.profiles import ProfileBook
from tests.scripted_omni import ScriptedOmni


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
    return ImageMaker(OmniClient(omni.url, 5.0), ProfileBook(), OutputFolder(str(tmp_path / "out")), jobs)
