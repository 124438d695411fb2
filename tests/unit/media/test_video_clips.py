"""Clips of callers: the first frame is decoded, the others are counted."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from PIL import Image

from media.audio_video import VideoReader
from media.decoding.muxing import add_audio
from media.decoding.video import check_video, poster, read_clip
from media.errors import MediaError, MediaForbidden, MediaTooLarge, MediaUnreadable
from settings import MediaSettings
from tests.decoder import DECODER
from tests.unit.media.sample_media import audio_file, video_file

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


@pytest.fixture
def reader() -> VideoReader:
    return VideoReader(MediaSettings(allowed_hosts=("127.0.0.1",)), DECODER)


# Clips


@pytest.mark.parametrize(("format", "codec", "sound"), FORMATS)
def test_clip_of_every_format_is_read_and_measured(format: str, codec: str, sound: str | None) -> None:
    clip = read_clip(video_file(format, codec, (96, 64), audio=sound), MAX_PIXELS)
    assert (clip.width, clip.height, clip.frames, clip.has_audio) == (96, 64, 16, sound is not None)
    assert clip.fps == pytest.approx(16, abs=0.1)
    assert clip.duration_s == pytest.approx(1, abs=0.01)
    assert (clip.first_frame.mode, clip.first_frame.size) == ("RGB", (96, 64))
    assert is_red(clip.first_frame, 4, 4)
    assert not is_red(clip.first_frame, 90, 4)


CLOCKWISE = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
"""What phones write that are held upright: as in ISO 14496-12, the image is to be turned to the right."""
COUNTERCLOCKWISE = (0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
UPSIDE_DOWN = (-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("matrix", "size", "red_corner"),
    [
        (None, (64, 48), (4, 4)),
        (CLOCKWISE, (48, 64), (44, 4)),
        (COUNTERCLOCKWISE, (48, 64), (4, 60)),
        (UPSIDE_DOWN, (64, 48), (60, 44)),
    ],
)
def test_clip_is_turned_as_it_says(
    matrix: tuple[int, ...] | None, size: tuple[int, int], red_corner: tuple[int, int]
) -> None:
    data = video_file(matrix=matrix)
    clip = read_clip(data, MAX_PIXELS)
    for image in (clip.first_frame, poster(data)):
        assert image.size == size
        corners = [(x, y) for x in (4, size[0] - 4) for y in (4, size[1] - 4)]
        assert [corner for corner in corners if is_red(image, *corner)] == [red_corner]
    assert (clip.width, clip.height) == size
    facts = check_video(data)
    assert (facts.width, facts.height) == size


def test_single_frame_has_no_frame_rate() -> None:
    clip = read_clip(video_file(frames=1), MAX_PIXELS)
    assert (clip.frames, clip.fps) == (1, None)
    assert clip.duration_s == pytest.approx(1 / 16, abs=0.001)


def test_all_references_to_a_clip_lead_to_the_same(reader: VideoReader, server: Any, tmp_path: Path) -> None:
    data = video_file(audio="aac")
    (tmp_path / "-видео 🎬.avi").write_bytes(data)
    server.answer("/clip", data)
    for reference in (
        str(tmp_path / "-видео 🎬.avi"),
        (tmp_path / "-видео 🎬.avi").as_uri(),
        server.url("/clip"),
        f"data:video/mp4;base64,{base64.b64encode(data).decode()}",
    ):
        clip = reader.read(reference)
        assert (clip.frames, clip.has_audio) == (16, True)


def test_limits_of_the_settings_hold(server: Any, tmp_path: Path) -> None:
    data = video_file(size=(320, 240))
    (tmp_path / "a.mp4").write_bytes(data)
    server.answer("/a.mp4", data)
    small = VideoReader(MediaSettings(max_media_bytes=1_000, allowed_hosts=("127.0.0.1",)), DECODER)
    for reference in (str(tmp_path / "a.mp4"), server.url("/a.mp4")):
        with pytest.raises(MediaTooLarge, match=r"The (file|video) .* VLLM_MAX_MEDIA_BYTES allows"):
            small.read(reference)
    with pytest.raises(MediaTooLarge, match="320 × 240 pixels"):
        VideoReader(MediaSettings(max_image_pixels=10_000), DECODER).read(str(tmp_path / "a.mp4"))
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_DIRS"):
        VideoReader(MediaSettings(allowed_dirs=(str(tmp_path / "in"),)), DECODER).read(str(tmp_path / "a.mp4"))


def test_frames_larger_than_the_container_says_are_not_decoded() -> None:
    """The size is in the file twice; a file may lie about it where it is cheap to look."""
    data = bytearray(video_file("mp4", "mpeg4", (640, 480)))
    entry = data.index(b"mp4v") + 28
    assert data[entry : entry + 4] == b"\x02\x80\x01\xe0"
    data[entry : entry + 4] = b"\0\x40\0\x30"
    assert read_clip(bytes(data), MAX_PIXELS).width == 640
    with pytest.raises(MediaError):
        read_clip(bytes(data), 10_000)


NO_VIDEO = [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("ipod", "aac"), ("ogg", "libopus")]


@pytest.mark.parametrize(("format", "codec"), NO_VIDEO)
def test_audio_instead_of_a_clip_is_an_error(format: str, codec: str) -> None:
    data = audio_file(format, codec, 48_000)
    for read in (lambda data: read_clip(data, MAX_PIXELS), check_video, poster):
        with pytest.raises(MediaUnreadable, match="There is no video in this file"):
            read(data)


def test_cover_of_a_song_is_no_video(encoded: Any) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as out:
        song = cast(Any, out.add_stream("libmp3lame", rate=16_000, layout="mono"))
        cover = cast(Any, out.add_stream("png"))
        cover.width, cover.height, cover.pix_fmt = 8, 6, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((6, 8, 3), np.uint8), format="rgb24")))
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(cast(Any, np.zeros((1, 1_152), np.float32)), "fltp", "mono")
            frame.sample_rate = 16_000
            out.mux(song.encode(frame))
        out.mux(song.encode(None))
    with pytest.raises(MediaUnreadable, match="There is no video"):
        read_clip(buffer.getvalue(), MAX_PIXELS)


def test_image_or_text_in_place_of_a_clip_is_an_error(encoded: Any) -> None:
    for data in (encoded("PNG"), encoded("JPEG"), encoded("GIF"), b"hello " * 99, bytes(999), b"\x1f\x8b" + bytes(99)):
        with pytest.raises(MediaUnreadable, match=r"not video in a supported format; supported are .*MP4"):
            read_clip(data, MAX_PIXELS)


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_cut_or_damaged_clip_is_an_error_or_what_is_left_of_it(format: str) -> None:
    whole = video_file(format, frames=32)
    random = np.random.default_rng(3)
    kept = [whole[: int(len(whole) * share)] for share in (0.01, 0.1, 0.3, 0.6, 0.9, 0.99)]
    for _ in range(40):
        mixed = bytearray(whole)
        for place in random.integers(0, len(mixed), 30):
            mixed[place] = random.integers(256)
        kept.append(bytes(mixed))
    read = errors = 0
    for data in kept:
        try:
            clip = read_clip(data, MAX_PIXELS)
        except MediaError:
            errors += 1
        else:
            read += 1
            assert clip.first_frame.width * clip.first_frame.height <= MAX_PIXELS
    assert errors > 5
    assert read + errors == len(kept)


def test_nothing_is_written_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    data = video_file(audio="aac")
    add_audio(data, audio_file())
    for cut in (data[:600], data[:-300]):
        with pytest.raises(MediaUnreadable):
            check_video(cut)
    assert capfd.readouterr() == ("", "")


def test_importing_the_readers_does_not_load_ffmpeg() -> None:
    program = (
        "import sys, media.decoding.audio, media.decoding.video, media.decoding.muxing; "
        "print({'av', 'numpy', 'PIL'} & set(sys.modules))"
    )
    folder = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
