"""When a client says that a generation begins and ends."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from omni.client import OmniClient
from omni.errors import OmniError, ServerFailed
from omni.speech.client import SpeechClient
from omni.video.client import VideoClient
from tests.scripted_omni import ScriptedOmni, answers, refuses
from tests.scripted_video import ScriptedVideoServer
from tests.unit.omni.conftest import FIELDS


class Recorded:
    """Records the turns."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def begin(self, url: str) -> None:
        """Begins at once."""
        self.events.append("begin")

    def end(self, url: str) -> None:
        """Ends it."""
        self.events.append("end")


@pytest.mark.parametrize("fails", [False, True])
def test_image_is_one_turn(omni: ScriptedOmni, fails: bool) -> None:
    turns = Recorded()
    if fails:
        omni.script(refuses(500, "no"))

    async def run() -> None:
        client = OmniClient(omni.url, 5.0, turns=turns)
        await client.served_model()
        assert turns.events == []
        await client.generate(FIELDS, 64 * 64)

    if fails:
        with pytest.raises(ServerFailed):
            asyncio.run(run())
    else:
        asyncio.run(run())
    assert turns.events == ["begin", "end"]


@pytest.mark.parametrize("downloads", [False, True])
def test_video_is_one_turn_until_its_download_or_its_end(video_server: ScriptedVideoServer, downloads: bool) -> None:
    turns = Recorded()

    async def run() -> None:
        client = VideoClient(video_server.url, 5.0, turns=turns)
        video_id = await client.submit({"prompt": "a"}, b"PNG")
        assert turns.events == ["begin"]
        if downloads:
            with contextlib.suppress(OmniError):
                await client.content(video_id)
            assert turns.events == ["begin", "end"]
        await client.delete(video_id)
        await client.delete(video_id)

    asyncio.run(run())
    assert turns.events == ["begin", "end"]


def test_speech_is_one_turn(omni: ScriptedOmni) -> None:
    turns = Recorded()
    omni.script(answers(b"RIFF"), path="/v1/audio/speech")
    asyncio.run(SpeechClient(omni.url, 5.0, turns=turns).say({"input": "a"}, 1.0))
    assert turns.events == ["begin", "end"]


def test_video_that_is_not_begun_ends_its_turn(video_server: ScriptedVideoServer) -> None:
    turns = Recorded()
    video_server.script(refuses(400, "no"), path="/v1/videos")

    async def run() -> None:
        with pytest.raises(OmniError):
            await VideoClient(video_server.url, 5.0, turns=turns).submit({"prompt": "a"}, b"PNG")

    asyncio.run(run())
    assert turns.events == ["begin", "end"]
