"""Audio from paths, URLs and base64, within the limits of the settings."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.audio_video import AudioReader
from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from settings import MediaSettings
from tests.decoder import DECODER
from tests.unit.media.sample_media import audio_file, raw_wav, video_file


@pytest.fixture
def reader() -> AudioReader:
    return AudioReader(MediaSettings(allowed_hosts=("127.0.0.1",)), DECODER)


# References


def test_all_references_to_audio_lead_to_the_same(reader: AudioReader, server: Any, tmp_path: Path) -> None:
    data = audio_file("mp3", "libmp3lame", 44_100)
    path = tmp_path / "grüße 声音 🎤.wav"  # the wrong extension does no harm
    path.write_bytes(data)
    server.answer("/voice", data, Content_Type="text/html")
    text = base64.b64encode(data).decode()
    found = [
        reader.read(reference)
        for reference in (
            str(path),
            path.as_uri(),
            server.url("/voice"),
            f"data:audio/mpeg;base64,{text}",
            f"DATA:application/ogg;base64,{text}",
            f"data:video/mp4;base64,{text}",
            f"data:;base64,{text}",
        )
    ]
    assert all(audio == found[0] for audio in found)
    assert server.seen[0].headers["Accept"].startswith("audio/*")


def test_home_folder_and_working_folder_are_known(
    reader: AudioReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(audio_file())
    assert reader.read("~/a.wav") == reader.read("a.wav")


@pytest.mark.parametrize(
    "name", ["-i.wav", "-", "concat:a.wav|b.wav", "pipe:0", "subfile,,start,0,end,9,,:a", "a%00d.wav"]
)
def test_names_that_mean_something_to_ffmpeg_are_names_of_files(
    reader: AudioReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaNotFound):
        reader.read(name)
    (tmp_path / name).write_bytes(audio_file())
    assert reader.read(name).duration_s == 1


@pytest.mark.parametrize(
    "url", ["concat://a|b", "rtmp://127.0.0.1/a", "ftp://127.0.0.1/a.wav", "tcp://127.0.0.1:9", "rtsp://127.0.0.1/a"]
)
def test_other_protocols_are_refused(reader: AudioReader, url: str) -> None:
    with pytest.raises(MediaForbidden, match="only http, https, data and file"):
        reader.read(url)


def test_rules_of_paths_hold(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "a.wav").write_bytes(audio_file())
    (inside / "link.wav").symlink_to(outside / "a.wav")
    confined = AudioReader(MediaSettings(allowed_dirs=(str(inside),)), DECODER)
    for reference in (str(outside / "a.wav"), str(inside / ".." / "out" / "a.wav"), str(inside / "link.wav")):
        with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_DIRS"):
            confined.read(reference)


def test_what_is_no_file_is_refused_at_once(reader: AudioReader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    for reference in (str(tmp_path / "fifo"), str(tmp_path), "/dev/zero", "/dev/stdin", "/proc/self/environ"):
        with pytest.raises(MediaError):
            reader.read(reference)
    with pytest.raises(MediaUnreadable, match="is empty"):
        reader.read(str(tmp_path / "empty"))


def test_private_addresses_are_refused(server: Any) -> None:
    server.answer("/a.wav", audio_file())
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_HOSTS"):
        AudioReader(MediaSettings(), DECODER).read(server.url("/a.wav"))
    assert server.seen == []


def test_limit_of_bytes_holds_for_every_source(server: Any, tmp_path: Path) -> None:
    reader = AudioReader(MediaSettings(max_media_bytes=1_000, allowed_hosts=("127.0.0.1",)), DECODER)
    data = audio_file()
    (tmp_path / "a.wav").write_bytes(data)
    server.answer("/a.wav", data)
    for reference in (
        str(tmp_path / "a.wav"),
        server.url("/a.wav"),
        f"data:audio/wav;base64,{base64.b64encode(data).decode()}",
    ):
        with pytest.raises(MediaTooLarge, match="VLLM_MAX_MEDIA_BYTES") as caught:
            reader.read(reference)
        assert "picture" not in str(caught.value)


def test_length_limit_is_that_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio_file(seconds=2))
    with pytest.raises(MediaTooLarge, match="the 1 s that OMNI_MAX_AUDIO_S"):
        AudioReader(MediaSettings(max_audio_s=1), DECODER).read(str(tmp_path / "a.wav"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("data:image/png;base64,AAAA", r'"image/png" is not an audio type: expected audio/… or video/… or'),
        ("data:audio/wav,abc", "must look like data:audio/wav;base64,…"),
        ("data:audio/wav;base64,A*A", "The audio's data is not base64"),
        ("data:audio/wav;base64,", "The audio's data is empty"),
    ],
)
def test_messages_speak_of_audio(reader: AudioReader, reference: str, message: str) -> None:
    with pytest.raises(MediaUnreadable, match=message):
        reader.read(reference)


def test_download_that_is_not_there_says_so(reader: AudioReader, server: Any) -> None:
    server.answer("/a.wav", b"gone", 404)
    with pytest.raises(MediaNotFound, match="has no such audio"):
        reader.read(server.url("/a.wav"))


# Samples


def test_samples_are_floats_of_one_channel_at_16_khz(reader: AudioReader, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=2))
    speech = reader.samples(str(path))
    samples = np.frombuffer(speech.samples, "<f4")
    assert speech.duration_s == len(samples) / 16_000 == pytest.approx(2, abs=0.1)
    assert 0.2 < np.abs(samples).max() <= 1
    assert np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples) == pytest.approx(440, abs=3)
    assert speech.n_bytes == len(speech.samples)


def test_samples_come_from_the_audio_track_of_a_video(reader: AudioReader, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(video_file(audio="aac"))
    assert reader.samples(str(path)).duration_s == pytest.approx(1, abs=0.1)


def test_samples_may_be_silent_or_none(reader: AudioReader, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(raw_wav(b"\0" * 32_000))
    speech = reader.samples(str(path))
    assert (speech.duration_s, set(speech.samples)) == (1.0, {0})
    path.write_bytes(raw_wav(b""))
    with_none = reader.samples(str(path))
    assert (with_none.duration_s, with_none.samples) == (0.0, b"")


def test_samples_of_equal_files_have_equal_digests_and_of_others_not(reader: AudioReader, tmp_path: Path) -> None:
    data = audio_file()
    (tmp_path / "a.wav").write_bytes(data)
    (tmp_path / "b.wav").write_bytes(audio_file(seconds=2))
    url = f"data:audio/wav;base64,{base64.b64encode(data).decode()}"
    speech = reader.samples(str(tmp_path / "a.wav"))
    assert speech == reader.samples(url) == reader.samples_base64(base64.b64encode(data).decode(), "audio/wav")
    assert speech.digest != reader.samples(str(tmp_path / "b.wav")).digest


def test_samples_have_a_limit_of_their_own(tmp_path: Path) -> None:
    reader = AudioReader(MediaSettings(max_audio_s=1), DECODER)
    path = tmp_path / "a.wav"
    path.write_bytes(audio_file(seconds=3))
    assert reader.samples(str(path)).duration_s == 3
    with pytest.raises(MediaTooLarge, match=r"longer than 2 s, the most that is taken at once\. Cut it into parts\.$"):
        reader.samples(str(path), max_s=2)


def test_samples_that_are_cut_off_are_refused(reader: AudioReader, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(audio_file(seconds=3)[:40_000])
    with pytest.raises(MediaUnreadable, match="cut off"):
        reader.samples(str(path))


@pytest.mark.slow
def test_samples_of_half_an_hour_stay_within_the_memory_of_the_child(reader: AudioReader, tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(audio_file("flac", "flac", 16_000, samples=np.full(16_000 * 1_800, 0.25)))
    speech = reader.samples(str(path))
    assert speech.duration_s == 1_800
    assert speech.n_bytes == 1_800 * 64_000
