"""vLLM-Omni on the CPU through `scripts/omni-cpu --video`: talking videos of noise, by a tiny Wan2.2 S2V."""

from __future__ import annotations

import base64
import io
import json
import time
import wave
from array import array
from typing import Any

import av
import httpx
import pytest

from tests.e2e import images
from tests.e2e.omni_server import OmniServer

RATE_HZ = 16_000
FPS = 16
"""Wan2.2 S2V's own; it cannot be changed."""
FREED_S = 4.0
"""The contract's 2 seconds from a deleted job to the next one, and as much again for a busy machine."""


def sound(duration_s: float = 1.0) -> bytes:
    """A WAV file with a tone of 400 Hz."""
    half_wave = RATE_HZ // 800
    samples = array("h", (8000 if index // half_wave % 2 else -8000 for index in range(int(duration_s * RATE_HZ))))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def make_image() -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    images.drawn(size=128).save(file, "PNG")
    return file.getvalue()


def ask(server: OmniServer, path: str, reference: bytes | None, kind: str, **changes: Any) -> httpx.Response:
    """Asks for a video of 128 pixels in which `reference`, an image or a clip, talks."""
    audio = base64.b64encode(sound()).decode()
    fields = {
        "prompt": "a person talks",
        "size": "128x128",
        "num_frames": "16",
        "num_inference_steps": "2",
        "seed": "1",
        "audio_reference": json.dumps({"audio_url": f"data:audio/wav;base64,{audio}"}),
        **changes,
    }
    files = {"input_reference": ("reference", reference, kind)} if reference else None
    return httpx.post(f"{server.url}{path}", data=fields, files=files, timeout=120)


def video(server: OmniServer, reference: bytes, kind: str = "image/png", **changes: Any) -> bytes:
    """A video from the server, as the bytes of its MP4 file."""
    answer = ask(server, "/v1/videos/sync", reference, kind, **changes)
    assert answer.status_code == 200, answer.text
    return answer.content


def assert_talking_video(data: bytes, audio_s: float) -> None:
    """The bytes are a video of 128 pixels with a sound of that length, and about as long."""
    with av.open(io.BytesIO(data), "r") as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        frames = list(container.decode(video=0))
    with av.open(io.BytesIO(data), "r") as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert {(frame.width, frame.height) for frame in frames} == {(128, 128)}
    assert samples / RATE_HZ == pytest.approx(audio_s, abs=0.1)
    assert len(frames) / FPS == pytest.approx(audio_s, abs=0.25)  # the first clip loses three frames


def test_image_and_sound_become_a_video_with_that_sound(omni_video_server: OmniServer) -> None:
    first = video(omni_video_server, make_image())
    assert_talking_video(first, 1.0)
    assert video(omni_video_server, make_image()) == first
    assert video(omni_video_server, make_image(), seed="2") != first


def test_clip_without_an_image_talks_from_its_first_frame(omni_video_server: OmniServer) -> None:
    clip = video(omni_video_server, make_image())
    assert_talking_video(video(omni_video_server, clip, "video/mp4"), 1.0)


def test_clip_may_come_as_a_url_too(omni_video_server: OmniServer) -> None:
    clip = base64.b64encode(video(omni_video_server, make_image())).decode()
    reference = json.dumps({"video_url": f"data:video/mp4;base64,{clip}"})
    answer = ask(omni_video_server, "/v1/videos/sync", None, "", video_reference=reference)
    assert answer.status_code == 200, answer.text
    assert_talking_video(answer.content, 1.0)


def test_deleting_a_job_stops_the_work(omni_video_server: OmniServer) -> None:
    began_s = time.monotonic()
    video(omni_video_server, make_image())
    alone_s = time.monotonic() - began_s
    answer = ask(omni_video_server, "/v1/videos", make_image(), "image/png", num_inference_steps="200")
    job = f"{omni_video_server.url}/v1/videos/{answer.json()['id']}"
    omni_video_server.wait_until_working()
    assert httpx.get(job).json()["status"] in ("queued", "in_progress")
    assert httpx.delete(job).json()["deleted"] is True
    began_s = time.monotonic()
    video(omni_video_server, make_image())
    assert time.monotonic() - began_s < alone_s + FREED_S


def test_server_says_that_its_output_is_noise(omni_video_server: OmniServer) -> None:
    assert "a tiny wan-s2v with random weights: it generates noise" in omni_video_server.log
