"""Clips of callers, and checks of the files that servers make."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from PIL import Image

from media.errors import MediaError, MediaForbidden, MediaTooLarge, MediaUnreadable
from media.muxing import with_sound
from media.recordings import VideoReader
from media.video import VideoFacts, check_video, poster, read_clip
from settings import MediaSettings
from tests.decoder import DECODER
from tests.unit.media.recordings import film, raw_wav, recording, tone

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
    clip = read_clip(film(format, codec, (96, 64), sound=sound), MAX_PIXELS)
    assert (clip.width, clip.height, clip.frames, clip.has_audio) == (96, 64, 16, sound is not None)
    assert clip.fps == pytest.approx(16, abs=0.1)
    assert clip.duration_s == pytest.approx(1, abs=0.01)
    assert (clip.first_frame.mode, clip.first_frame.size) == ("RGB", (96, 64))
    assert is_red(clip.first_frame, 4, 4)
    assert not is_red(clip.first_frame, 90, 4)


CLOCKWISE = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
"""What phones write that are held upright: as in ISO 14496-12, the picture is to be turned to the right."""
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
    data = film(matrix=matrix)
    clip = read_clip(data, MAX_PIXELS)
    for image in (clip.first_frame, poster(data)):
        assert image.size == size
        corners = [(x, y) for x in (4, size[0] - 4) for y in (4, size[1] - 4)]
        assert [corner for corner in corners if is_red(image, *corner)] == [red_corner]
    assert (clip.width, clip.height) == size
    facts = check_video(data)
    assert (facts.width, facts.height) == size


def test_single_frame_has_no_frame_rate() -> None:
    clip = read_clip(film(frames=1), MAX_PIXELS)
    assert (clip.frames, clip.fps) == (1, None)
    assert clip.duration_s == pytest.approx(1 / 16, abs=0.001)


def test_all_references_to_a_clip_lead_to_the_same(reader: VideoReader, server: Any, tmp_path: Path) -> None:
    data = film(sound="aac")
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
    data = film(size=(320, 240))
    (tmp_path / "a.mp4").write_bytes(data)
    server.answer("/a.mp4", data)
    small = VideoReader(MediaSettings(max_video_bytes=1_000, allowed_hosts=("127.0.0.1",)), DECODER)
    for reference in (str(tmp_path / "a.mp4"), server.url("/a.mp4")):
        with pytest.raises(MediaTooLarge, match=r"The (file|video) .* VLLM_MAX_VIDEO_BYTES allows"):
            small.read(reference)
    with pytest.raises(MediaTooLarge, match="320 × 240 pixels"):
        VideoReader(MediaSettings(max_image_pixels=10_000), DECODER).read(str(tmp_path / "a.mp4"))
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_DIRS"):
        VideoReader(MediaSettings(allowed_dirs=(str(tmp_path / "in"),)), DECODER).read(str(tmp_path / "a.mp4"))


def test_frames_larger_than_the_container_says_are_not_decoded() -> None:
    """The size is in the file twice; a file may lie about it where it is cheap to look."""
    data = bytearray(film("mp4", "mpeg4", (640, 480)))
    entry = data.index(b"mp4v") + 28
    assert data[entry : entry + 4] == b"\x02\x80\x01\xe0"
    data[entry : entry + 4] = b"\0\x40\0\x30"
    assert read_clip(bytes(data), MAX_PIXELS).width == 640
    with pytest.raises(MediaError):
        read_clip(bytes(data), 10_000)


NO_VIDEO = [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("ipod", "aac"), ("ogg", "libopus")]


@pytest.mark.parametrize(("format", "codec"), NO_VIDEO)
def test_sound_in_place_of_a_clip_is_an_error(format: str, codec: str) -> None:
    data = recording(format, codec, 48_000)
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


def test_picture_or_text_in_place_of_a_clip_is_an_error(encoded: Any) -> None:
    for data in (encoded("PNG"), encoded("JPEG"), encoded("GIF"), b"hello " * 99, bytes(999), b"\x1f\x8b" + bytes(99)):
        with pytest.raises(MediaUnreadable, match=r"not video in a readable format; readable are .*MP4"):
            read_clip(data, MAX_PIXELS)


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_cut_or_damaged_clip_is_an_error_or_what_is_left_of_it(format: str) -> None:
    whole = film(format, frames=32)
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


# Checks of what was made


def test_facts_are_measured() -> None:
    facts = check_video(film(size=(128, 96), frames=48, fps=24, sound="aac", sound_s=1.5))
    assert facts == VideoFacts(128, 96, 24.0, 48, about(2), True, about(1.5))
    silent = check_video(film(frames=45))
    assert (silent.has_audio, silent.audio_duration_s) == (False, 0)
    assert silent.duration_s == pytest.approx(45 / 16)


@pytest.mark.parametrize(("format", "codec", "sound"), FORMATS)
def test_whole_files_pass_the_check(format: str, codec: str, sound: str | None) -> None:
    facts = check_video(film(format, codec, sound=sound))
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
    data = film(frames=64, sound="aac")
    for whole in (data, laid_out_anew(data, tmp_path / "a.mp4", "faststart")):
        assert check_video(whole).frames == 64
        with pytest.raises(MediaUnreadable):
            check_video(whole[: int(len(whole) * share)])


def test_file_with_frames_missing_does_not_pass() -> None:
    """The index is whole and says where the frames are; the frames are not there."""
    data = film(frames=64)
    index = data[data.index(b"moov") - 4 :]
    frames = data[: data.index(b"moov") - 4]
    begins = frames.index(b"mdat") + 4
    zeroed = frames[: begins + 900] + bytes(len(frames) - begins - 900) + index
    with pytest.raises(MediaUnreadable, match=r"damaged|cut off|no frames"):
        check_video(zeroed)


def test_file_in_pieces_passes(tmp_path: Path) -> None:
    assert check_video(laid_out_anew(film(frames=32), tmp_path / "a.mp4", "frag_keyframe+empty_moov")).frames == 32


@pytest.mark.parametrize("data", [b"", b"x", b"<html>502 Bad Gateway</html>", b'{"error": 1}', b"\0\0\0\x18ftypisom"])
def test_what_is_no_video_does_not_pass(data: bytes) -> None:
    with pytest.raises(MediaUnreadable):
        check_video(data)


def test_video_without_frames_does_not_pass() -> None:
    with pytest.raises(MediaUnreadable, match="no frames"):
        check_video(film("matroska", "mpeg4", frames=0, sound="flac", sound_s=1))


def test_frames_that_are_too_large_do_not_pass() -> None:
    with pytest.raises(MediaTooLarge, match="more than the 8294400 pixels"):
        check_video(film("mp4", "mjpeg", (4_096, 2_160), frames=1))


# Posters


def test_poster_is_the_frame_in_the_middle() -> None:
    data = film(frames=32, black_frames=8, sound="aac")
    image = poster(data)
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert is_red(image, 4, 4)
    assert not is_red(read_clip(data, MAX_PIXELS).first_frame, 4, 4)
    blue = cast("tuple[int, int, int]", image.getpixel((60, 44)))[2]
    assert blue == pytest.approx(100, abs=12)


@pytest.mark.parametrize(("format", "codec", "sound"), FORMATS)
def test_every_format_has_a_poster(format: str, codec: str, sound: str | None) -> None:
    assert is_red(poster(film(format, codec, sound=sound)), 4, 4)
    assert is_red(poster(film(format, codec, frames=1)), 4, 4)


# Sound for videos


def packets_of(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_sound_is_added_and_the_frames_are_the_same(codec: str) -> None:
    silent = film("mp4", codec, frames=32)
    made = with_sound(silent, recording(seconds=2))
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
def test_sound_of_any_format_is_added(format: str, codec: str, rate: int, layout: str) -> None:
    facts = check_video(with_sound(film(), recording(format, codec, rate, layout)))
    assert facts.audio_duration_s == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_sound_beyond_all_measure_does_not_hang_the_encoder(value: float) -> None:
    samples = tone(16_000, 1).astype("<f4")
    samples[100:110] = value
    made = with_sound(film(), raw_wav(samples.tobytes(), bits=32, tag=3))
    assert check_video(made).audio_duration_s == about(1)


@pytest.mark.parametrize(("frames", "seconds"), [(16, 3), (48, 1)])
def test_each_keeps_its_length(frames: int, seconds: float) -> None:
    facts = check_video(with_sound(film(frames=frames), recording(seconds=seconds)))
    assert facts.duration_s == pytest.approx(frames / 16)
    assert facts.audio_duration_s == pytest.approx(seconds, abs=0.15)


def test_sound_lies_between_the_frames() -> None:
    """A player that reads from the start finds both."""
    with av.open(io.BytesIO(with_sound(film(frames=160), recording(seconds=10))), "r") as container:
        kinds = "".join(packet.stream.type[0] for packet in container.demux() if packet.size)
    assert max(map(len, re.findall("a+|v+", kinds[:-20]))) < 10


def test_sound_that_was_there_is_replaced() -> None:
    made = with_sound(film(sound="aac"), recording(seconds=2))
    assert check_video(made).audio_duration_s == pytest.approx(2, abs=0.15)


def test_same_parts_make_the_same_file() -> None:
    parts = film(), recording()
    assert with_sound(*parts) == with_sound(*parts)


def test_bad_parts_are_errors() -> None:
    for video, audio in ((b"x", recording()), (recording(), recording()), (film(), b"x"), (film(), film())):
        with pytest.raises(MediaUnreadable):
            with_sound(video, audio)


def test_nothing_is_written_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    data = film(sound="aac")
    with_sound(data, recording())
    for cut in (data[:600], data[:-300]):
        with pytest.raises(MediaUnreadable):
            check_video(cut)
    assert capfd.readouterr() == ("", "")


def test_importing_the_readers_does_not_load_ffmpeg() -> None:
    program = "import sys, media.audio, media.video, media.muxing; print({'av', 'numpy', 'PIL'} & set(sys.modules))"
    folder = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
