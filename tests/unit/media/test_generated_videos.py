"""Checks and posters of videos that a server generated."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import av
import pytest
from PIL import Image

from media.decoding.video import VideoFacts, check_video, poster, read_clip
from media.errors import MediaTooLarge, MediaUnreadable
from tests.unit.media.sample_media import video_file

pytestmark = pytest.mark.slow

MAX_PIXELS = 1 << 20
FORMATS = [
    ("mp4", "libx264", "aac"),
    ("mp4", "mpeg4", None),
    ("mp4", "libx265", None),
    ("mp4", "libx264", "libopus"),
    ("mov", "libx264", "alac"),
    ("mov", "mjpeg", None),
    ("webm", "libvpx", None),
    ("webm", "libvpx-vp9", "libopus"),
    ("matroska", "libx264", "flac"),
]


def is_red(image: Image.Image, x: int, y: int) -> bool:
    red, green, _ = cast("tuple[int, int, int]", image.getpixel((x, y)))
    return red > 150 and green < 90


def about(seconds: float) -> float:
    """Equal to this many seconds, but for the whole frames that codecs of sound fill up."""
    return cast(float, pytest.approx(seconds, abs=0.15))


# Checks of what was made


def test_facts_are_measured() -> None:
    facts = check_video(video_file(size=(128, 96), frames=48, fps=24, audio="aac", audio_s=1.5))
    assert facts == VideoFacts(128, 96, 24.0, 48, about(2), True, about(1.5))
    silent = check_video(video_file(frames=45))
    assert (silent.has_audio, silent.audio_duration_s) == (False, 0)
    assert silent.duration_s == pytest.approx(45 / 16)


@pytest.mark.parametrize(("format", "codec", "sound"), FORMATS)
def test_whole_files_pass_the_check(format: str, codec: str, sound: str | None) -> None:
    facts = check_video(video_file(format, codec, audio=sound))
    assert (facts.frames, facts.has_audio) == (16, sound is not None)
    assert facts.duration_s == pytest.approx(1, abs=0.01)
    assert facts.audio_duration_s == pytest.approx(1 if sound else 0, abs=0.1)


def laid_out_anew(data: bytes, path: Path, movflags: str) -> bytes:
    """An MP4 with its index before its frames or in pieces among them, as servers write it for the web."""
    with av.open(io.BytesIO(data), "r") as source, av.open(str(path), "w", options={"movflags": movflags}) as out:
        streams = {stream.index: out.add_stream_from_template(cast(Any, stream)) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = cast(Any, streams[packet.stream.index])
                out.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.8, 0.97])
def test_cut_file_does_not_pass(share: float, tmp_path: Path) -> None:
    data = video_file(frames=64, audio="aac")
    for whole in (data, laid_out_anew(data, tmp_path / "a.mp4", "faststart")):
        assert check_video(whole).frames == 64
        with pytest.raises(MediaUnreadable):
            check_video(whole[: int(len(whole) * share)])


def test_file_with_frames_missing_does_not_pass() -> None:
    """The index is whole and says where the frames are; the frames are not there."""
    data = video_file(frames=64)
    index = data[data.index(b"moov") - 4 :]
    frames = data[: data.index(b"moov") - 4]
    begins = frames.index(b"mdat") + 4
    zeroed = frames[: begins + 900] + bytes(len(frames) - begins - 900) + index
    with pytest.raises(MediaUnreadable, match=r"damaged|cut off|no frames"):
        check_video(zeroed)


def test_fragmented_file_passes(tmp_path: Path) -> None:
    assert (
        check_video(laid_out_anew(video_file(frames=32), tmp_path / "a.mp4", "frag_keyframe+empty_moov")).frames == 32
    )


@pytest.mark.parametrize("data", [b"", b"x", b"<html>502 Bad Gateway</html>", b'{"error": 1}', b"\0\0\0\x18ftypisom"])
def test_other_data_does_not_pass(data: bytes) -> None:
    with pytest.raises(MediaUnreadable):
        check_video(data)


def test_video_without_frames_does_not_pass() -> None:
    with pytest.raises(MediaUnreadable, match="no frames"):
        check_video(video_file("matroska", "mpeg4", frames=0, audio="flac", audio_s=1))


def test_frames_that_are_too_large_do_not_pass() -> None:
    with pytest.raises(MediaTooLarge, match="above the 8294400 pixels"):
        check_video(video_file("mp4", "mjpeg", (4_096, 2_160), frames=1))


# Posters


def test_poster_is_the_frame_in_the_middle() -> None:
    data = video_file(frames=32, black_frames=8, audio="aac")
    image = poster(data)
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert is_red(image, 4, 4)
    assert not is_red(read_clip(data, MAX_PIXELS).first_frame, 4, 4)
    blue = cast("tuple[int, int, int]", image.getpixel((60, 44)))[2]
    assert blue == pytest.approx(100, abs=12)


@pytest.mark.parametrize(("format", "codec", "sound"), FORMATS)
def test_every_format_has_a_poster(format: str, codec: str, sound: str | None) -> None:
    assert is_red(poster(video_file(format, codec, audio=sound)), 4, 4)
    assert is_red(poster(video_file(format, codec, frames=1)), 4, 4)
