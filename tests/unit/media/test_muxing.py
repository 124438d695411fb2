"""Audio added to a video without encoding its frames again."""

from __future__ import annotations

import io
import re
from typing import cast

import av
import numpy as np
import pytest

from media.decoding.muxing import add_audio
from media.decoding.video import VideoFacts, check_video
from media.errors import MediaUnreadable
from tests.unit.media.sample_media import audio_file, raw_wav, tone, video_file

pytestmark = pytest.mark.slow


def about(seconds: float) -> float:
    """Equal to this many seconds, but for the whole frames that codecs of sound fill up."""
    return cast(float, pytest.approx(seconds, abs=0.15))


# Sound for videos


def packets_of(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_audio_is_added_and_the_frames_are_the_same(codec: str) -> None:
    silent = video_file("mp4", codec, frames=32)
    made = add_audio(silent, audio_file(seconds=2))
    assert packets_of(made) == packets_of(silent)
    assert check_video(made) == VideoFacts(64, 48, 16.0, 32, about(2), True, about(2))
    with av.open(io.BytesIO(made), "r") as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].start_time == container.streams.video[0].start_time == 0


@pytest.mark.parametrize(
    ("format", "codec", "rate", "layout"),
    [
        ("wav", "pcm_s16le", 16_000, "mono"),
        ("wav", "pcm_f32le", 96_000, "5.1"),
        ("mp3", "libmp3lame", 44_100, "stereo"),
        ("ogg", "libopus", 48_000, "stereo"),
        ("wav", "pcm_u8", 11_025, "mono"),
        ("wav", "pcm_s16le", 9_999, "mono"),
    ],
)
def test_audio_of_any_format_is_added(format: str, codec: str, rate: int, layout: str) -> None:
    facts = check_video(add_audio(video_file(), audio_file(format, codec, rate, layout)))
    assert facts.audio_duration_s == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_infinite_samples_do_not_hang_the_encoder(value: float) -> None:
    samples = tone(16_000, 1).astype("<f4")
    samples[100:110] = value
    made = add_audio(video_file(), raw_wav(samples.tobytes(), bits=32, tag=3))
    assert check_video(made).audio_duration_s == about(1)


@pytest.mark.parametrize(("frames", "seconds"), [(16, 3), (48, 1)])
def test_each_keeps_its_length(frames: int, seconds: float) -> None:
    facts = check_video(add_audio(video_file(frames=frames), audio_file(seconds=seconds)))
    assert facts.duration_s == pytest.approx(frames / 16)
    assert facts.audio_duration_s == pytest.approx(seconds, abs=0.15)


def test_audio_is_interleaved_with_the_frames() -> None:
    """A player that reads from the start finds both."""
    with av.open(io.BytesIO(add_audio(video_file(frames=160), audio_file(seconds=10))), "r") as container:
        kinds = "".join(packet.stream.type[0] for packet in container.demux() if packet.size)
    assert max(map(len, re.findall("a+|v+", kinds[:-20]))) < 10


def test_existing_audio_is_replaced() -> None:
    made = add_audio(video_file(audio="aac"), audio_file(seconds=2))
    assert check_video(made).audio_duration_s == pytest.approx(2, abs=0.15)


def test_same_parts_make_the_same_file() -> None:
    parts = video_file(), audio_file()
    assert add_audio(*parts) == add_audio(*parts)


def test_bad_parts_are_errors() -> None:
    for video, audio in (
        (b"x", audio_file()),
        (audio_file(), audio_file()),
        (video_file(), b"x"),
        (video_file(), video_file()),
    ):
        with pytest.raises(MediaUnreadable):
            add_audio(video, audio)
