"""Frames spread over a span of a video: which ones, with which times, within which limits."""

from __future__ import annotations

import base64
import io
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from media.audio_video import VideoReader
from media.call_limits import CallLimits
from media.decoding import frames as decoding
from media.decoding import video
from media.decoding.frames import VideoFrames, sample_frames
from media.errors import MediaCancelled, MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from sandbox.cancellation import Cancellation
from settings import MediaSettings
from tests.decoder import DECODER
from tests.unit.media.numbered_video import encoded, number_in, numbered_frame, numbered_video
from tests.unit.media.sample_media import audio_file, video_file
from tests.unit.media.test_video_clips import CLOCKWISE, COUNTERCLOCKWISE, UPSIDE_DOWN, is_red

MAX_PIXELS = 1 << 22
Options = tuple[tuple[str, str], ...]
X265 = "log-level=none:bframes=4:keyint=20"
ENCODINGS: dict[str, tuple[str, str, Options]] = {
    "H.264": ("mp4", "libx264", ()),
    "H.264, a keyframe every 12": ("mp4", "libx264", (("bf", "3"), ("g", "12"))),
    "H.264, open groups": ("mp4", "libx264", (("x264-params", "open-gop=1:keyint=20:bframes=3"),)),
    "HEVC": ("mp4", "libx265", (("x265-params", X265),)),
    "HEVC, open groups": ("mp4", "libx265", (("x265-params", f"{X265}:open-gop=1"),)),
    "AV1": ("mp4", "libsvtav1", (("preset", "12"), ("svtav1-params", "lp=1"))),
    "MPEG-4": ("mp4", "mpeg4", (("bf", "2"),)),
    "Motion JPEG": ("mov", "mjpeg", ()),
    "VP8 with hidden frames": ("webm", "libvpx", (("auto-alt-ref", "1"), ("lag-in-frames", "16"))),
    "VP9": ("matroska", "libvpx-vp9", (("deadline", "realtime"), ("cpu-used", "8"))),
}


def sampled(data: bytes, max_frames: int = 5, start_s: float = 0.0, end_s: float | None = None) -> VideoFrames:
    return sample_frames(data, max_frames, MAX_PIXELS, start_s, end_s)


def numbers(found: VideoFrames) -> list[int]:
    return [number_in(frame) for frame in found.frames]


@pytest.fixture
def reader() -> VideoReader:
    return VideoReader(MediaSettings(allowed_hosts=("127.0.0.1",)), DECODER)


# Which frames


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize(
    ("max_frames", "start_s", "end_s", "expected"),
    [
        (5, 0, None, [10, 30, 50, 70, 90]),
        (3, 1, 2, [29, 37, 45]),
        (1, 0, None, [50]),
        (1, 2, 2.001, [50]),
        (4, 3.9, None, [97, 98, 99]),
        (4, 3.9, 99, [97, 98, 99]),
        (100, 0, None, [*range(100)]),
        (256, 0, 1, [*range(25)]),
    ],
)
def test_frames_in_the_middle_of_equal_parts_are_decoded_with_their_own_times(
    name: str, max_frames: int, start_s: float, end_s: float | None, expected: list[int]
) -> None:
    found = sampled(numbered_video(100, 25, *ENCODINGS[name]), max_frames, start_s, end_s)
    assert numbers(found) == list(found.indices) == expected
    assert found.times_s == pytest.approx([number / 25 for number in expected], abs=0.001)
    assert found.n_frames == 100
    assert (found.duration_s, found.fps) == pytest.approx((4, 25))


def test_times_of_a_variable_frame_rate_are_those_of_the_frames() -> None:
    times_ms = (0, 40, 80, 1_000, 1_700, 6_000, 6_040, 6_500)
    data = numbered_video(times_ms=times_ms)
    found = sampled(data, 8)
    assert numbers(found) == [*range(8)]
    assert found.times_s == pytest.approx([time / 1_000 for time in times_ms], abs=0.001)
    # The fifth frame is shown for more than four seconds: once is enough.
    few = sampled(data, 4)
    assert numbers(few) == [2, 4]
    assert few.times_s == pytest.approx([0.08, 1.7], abs=0.001)
    # A frame that began earlier is what is to be seen.
    assert numbers(sampled(data, 4, 3, 4)) == [4]
    assert numbers(sampled(data, 4, 5.9, 6.03)) == [4, 5]


def test_times_count_from_the_first_frame() -> None:
    late = encoded({time_ms: numbered_frame(time_ms // 40) for time_ms in range(90_000, 92_000, 40)}, format="matroska")
    found = sampled(late, 5)
    assert found.times_s == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8], abs=0.001)
    assert found.duration_s == pytest.approx(2, abs=0.05)


def test_the_time_of_a_result_leads_to_the_same_frame() -> None:
    data = numbered_video(60, 30)
    for time_s, number in zip((found := sampled(data, 60)).times_s, numbers(found), strict=True):
        assert numbers(sampled(data, 1, round(time_s, 3), round(time_s, 3) + 0.001)) == [number]


def test_a_single_frame_is_a_video() -> None:
    for max_frames in (1, 16):
        found = sampled(video_file(frames=1), max_frames)
        assert (len(found.frames), found.times_s, found.indices, found.fps) == (1, (0.0,), (0,), None)


@pytest.mark.parametrize("start_s", [4, 4.5, 1e9])
def test_a_span_behind_the_end_is_an_error(start_s: float) -> None:
    with pytest.raises(MediaUnreadable, match=r"The video ends at 4.000 s; there is nothing from"):
        sampled(numbered_video(), 5, start_s)


def test_frames_are_decoded_only_from_the_keyframe_before(monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbered_video(100, 25, options=(("g", "10"), ("keyint_min", "10"), ("sc_threshold", "0")))
    n_decoded = 0
    really = video.decoded

    def counted(packet: Any) -> Iterator[Any]:
        nonlocal n_decoded
        n_decoded += 1
        return really(packet)

    monkeypatch.setattr(decoding, "decoded", counted)
    assert numbers(sampled(data, 2, 0, 3.2)) == [20, 60]
    assert n_decoded <= 4


# What the file says about itself


def test_wrong_and_missing_durations_do_not_matter() -> None:
    data = bytearray(numbered_video())
    for name, at in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        place = data.index(name) + at
        data[place : place + 4] = struct.pack(">I", 7_654_321)
    assert numbers(sampled(bytes(data))) == [10, 30, 50, 70, 90]
    live = numbered_video(format="matroska", container_options=(("live", "1"),))
    fragmented = numbered_video(
        options=(("g", "10"),), container_options=(("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
    )
    for without in (live, fragmented):
        with av.open(io.BytesIO(without)) as container:
            assert not container.streams.video[0].duration or without is fragmented
        assert numbers(sampled(without)) == [10, 30, 50, 70, 90]


def test_a_cut_file_has_the_frames_that_are_left() -> None:
    data = numbered_video(format="matroska", options=(("g", "10"),))
    found = sampled(data[: len(data) // 2], 5)
    assert numbers(found) == list(found.indices)
    assert 20 < found.n_frames < 90
    assert found.duration_s == pytest.approx(found.n_frames / 25, abs=0.2)
    with pytest.raises(MediaUnreadable, match="damaged or cut off"):
        sampled(numbered_video()[:2_000])


def test_frames_hidden_by_an_edit_list_are_not_counted() -> None:
    """Phones cut a video by an edit list: the frames before the cut are there, since others refer to them."""
    data = numbered_video()
    place = data.index(b"elst")
    duration, start = struct.unpack(">II", data[place + 12 : place + 20])
    timescale = struct.unpack(">I", data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20])[0]
    cut = bytearray(data)
    cut[place + 12 : place + 20] = struct.pack(">II", duration - 1_000, start + timescale)
    found = sampled(bytes(cut), 3)
    assert numbers(found) == [37, 62, 87]
    assert found.times_s == pytest.approx([0.48, 1.48, 2.48], abs=0.001)
    assert found.n_frames == 75


@pytest.mark.parametrize(
    ("matrix", "size", "red_corner"),
    [
        (None, (64, 48), (4, 4)),
        (CLOCKWISE, (48, 64), (44, 4)),
        (COUNTERCLOCKWISE, (48, 64), (4, 60)),
        (UPSIDE_DOWN, (64, 48), (60, 44)),
    ],
)
def test_frames_are_upright(matrix: tuple[int, ...] | None, size: tuple[int, int], red_corner: tuple[int, int]) -> None:
    found = sampled(video_file(matrix=matrix), 3)
    assert (found.width, found.height) == size
    for frame in found.frames:
        assert (frame.mode, frame.size) == ("RGB", size)
        corners = [(x, y) for x in (4, size[0] - 4) for y in (4, size[1] - 4)]
        assert [corner for corner in corners if is_red(frame, *corner)] == [red_corner]


def test_sound_is_reported_and_otherwise_ignored() -> None:
    assert sampled(video_file(audio="aac")).has_audio
    assert not sampled(video_file()).has_audio
    for data in (audio_file("mp3", "libmp3lame"), audio_file("ipod", "aac")):
        with pytest.raises(MediaUnreadable, match="There is no video in this file"):
            sampled(data)


def test_images_and_texts_are_no_video(encoded: Any) -> None:
    for data in (encoded("PNG"), encoded("GIF"), b"hello " * 99, b""):
        with pytest.raises(MediaUnreadable, match="not video in a supported format"):
            sampled(data)


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_damaged_files_are_errors_or_what_is_left_of_them(format: str) -> None:
    whole = numbered_video(40, format=format, options=(("g", "10"),))
    random_ = random.Random(5)
    read = errors = 0
    for _ in range(60):
        mixed = bytearray(whole)
        for _ in range(random_.choice((3, 30, 300))):
            mixed[random_.randrange(len(mixed))] = random_.randrange(256)
        try:
            found = sampled(bytes(mixed), 6)
        except MediaError:
            errors += 1
        else:
            read += 1
            assert len(found.frames) == len(found.times_s) == len(found.indices) <= 6
            assert list(found.times_s) == sorted(found.times_s)
            assert all(0 <= index < found.n_frames for index in found.indices)
    assert read > 5
    assert errors > 5


# Limits


def test_large_frames_are_scaled_down() -> None:
    number = 1_234
    data = encoded({0: numbered_frame(number, (2_048, 1_024)), 40: numbered_frame(7, (2_048, 1_024))})
    found = sampled(data, 2)
    assert (found.width, found.height) == (2_048, 1_024)
    assert numbers(found) == [number, 7]
    for frame in found.frames:
        assert frame.width * frame.height <= decoding.MAX_FRAME_PIXELS
        assert frame.width / frame.height == pytest.approx(2, rel=0.01)


def test_many_frames_share_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_FRAMES_BYTES", 100_000)
    found = sampled(numbered_video(), 20)
    assert numbers(found) == list(found.indices)
    assert 50_000 < found.n_bytes <= 100_000


def test_too_many_pixels_or_frames_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MediaTooLarge, match="192 × 64 pixels; 1000 in total"):
        sample_frames(numbered_video(), 5, 1_000)
    monkeypatch.setattr(decoding, "MAX_PACKETS", 50)
    with pytest.raises(MediaTooLarge, match="more than 50 frames"):
        sampled(numbered_video())


def test_the_time_limit_holds() -> None:
    with pytest.raises(MediaTooLarge, match="takes more than 0 s"):
        sample_frames(numbered_video(), 5, MAX_PIXELS, timeout_s=0)


# The reader


def test_all_references_lead_to_the_same_frames(reader: VideoReader, server: Any, tmp_path: Path) -> None:
    data = numbered_video(options=(("g", "10"),))
    (tmp_path / "-видео 🎬.avi").write_bytes(data)
    server.answer("/clip", data)
    here = sampled(data, 4, 1, 3)
    for reference in (
        str(tmp_path / "-видео 🎬.avi"),
        (tmp_path / "-видео 🎬.avi").as_uri(),
        server.url("/clip"),
        f"data:video/mp4;base64,{base64.b64encode(data).decode()}",
    ):
        found = reader.frames(reference, 4, 1, 3)
        assert numbers(found) == list(found.indices) == [31, 43, 56, 68]
        for name in ("times_s", "indices", "width", "height", "duration_s", "fps", "n_frames", "has_audio", "digest"):
            assert getattr(found, name) == getattr(here, name), name
        assert [frame.tobytes() for frame in found.frames] == [frame.tobytes() for frame in here.frames]


def test_rules_of_the_settings_hold(server: Any, tmp_path: Path) -> None:
    data = numbered_video()
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    server.answer("/a.mp4", data)
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_MEDIA_BYTES"):
        VideoReader(MediaSettings(max_media_bytes=1_000), DECODER).frames(str(path), 5)
    with pytest.raises(MediaTooLarge, match="192 × 64 pixels"):
        VideoReader(MediaSettings(max_image_pixels=1_000), DECODER).frames(str(path), 5)
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_DIRS"):
        VideoReader(MediaSettings(allowed_dirs=(str(tmp_path / "in"),)), DECODER).frames(str(path), 5)
    with pytest.raises(MediaForbidden):
        VideoReader(MediaSettings(), DECODER).frames(server.url("/a.mp4"), 5)
    with pytest.raises(MediaNotFound):
        VideoReader(MediaSettings(), DECODER).frames(str(tmp_path / "b.mp4"), 5)


@pytest.mark.parametrize(
    ("max_frames", "start_s", "end_s"), [(0, None, None), (257, None, None), (5, -1, None), (5, 2, 2), (5, 3, 2)]
)
def test_an_impossible_span_is_a_mistake_of_the_caller(
    reader: VideoReader, max_frames: int, start_s: float | None, end_s: float | None
) -> None:
    with pytest.raises(ValueError, match="frames from"):
        reader.frames("a.mp4", max_frames, start_s, end_s)


def test_errors_of_the_child_are_told(reader: VideoReader, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(numbered_video())
    with pytest.raises(MediaUnreadable, match=r"ends at 4\.000 s"):
        reader.frames(str(path), 5, 7)
    path.write_bytes(b"hello")
    with pytest.raises(MediaUnreadable, match="not video in a supported format"):
        reader.frames(str(path), 5)


def test_a_cancelled_or_late_call_decodes_nothing(reader: VideoReader, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(numbered_video())
    cancellation = Cancellation()
    cancellation.set()
    for limits in (CallLimits(cancellation), CallLimits(deadline_s=0.0)):
        with pytest.raises(MediaCancelled):
            reader.frames(str(path), 5, limits=limits)


def test_each_image_has_a_digest_of_its_own() -> None:
    found, other = sampled(numbered_video(), 3), sampled(numbered_video(90), 3)
    digests = {each.digest_of(position) for each in (found, other) for position in range(3)}
    assert len(digests) == 6
    again = sampled(numbered_video(), 5, 1.9, 2.1)
    assert again.digest_of(again.indices.index(50)) == found.digest_of(found.indices.index(50))


def test_pixels_are_those_of_the_frame() -> None:
    shades = {0: (200, 30, 30), 40: (30, 30, 200)}
    frames = {time_ms: np.full((48, 64, 3), shade, np.uint8) for time_ms, shade in shades.items()}
    found = sampled(encoded(frames), 2)
    for frame, shade in zip(found.frames, shades.values(), strict=True):
        seen = cast("tuple[int, int, int]", frame.getpixel((30, 20)))
        assert seen == pytest.approx(shade, abs=12)
