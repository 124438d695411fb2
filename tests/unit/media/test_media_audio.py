"""Sound from every source and in every format becomes the same: one channel at 16 kHz, measured and bounded."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import time
import tracemalloc
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.audio import MIN_AUDIO_S, decode_audio
from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from media.recordings import AudioReader
from settings import MediaSettings
from tests.decoder import DECODER
from tests.unit.media.recordings import film, pcm, raw_wav, recording, samples_of, tone


@pytest.fixture
def reader() -> AudioReader:
    return AudioReader(MediaSettings(allowed_hosts=("127.0.0.1",)), DECODER)


def pitch_hz(wav: bytes, rate: int = 16_000) -> float:
    """The strongest frequency in a WAV file of ours."""
    samples = samples_of(wav)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


FORMATS = [
    ("wav", "pcm_u8", 8_000, "mono"),
    ("wav", "pcm_s16le", 44_100, "stereo"),
    ("wav", "pcm_s24le", 96_000, "stereo"),
    ("wav", "pcm_s32le", 48_000, "mono"),
    ("wav", "pcm_f32le", 48_000, "5.1"),
    ("wav", "pcm_f64le", 22_050, "mono"),
    ("wav", "pcm_mulaw", 8_000, "mono"),
    ("wav", "pcm_alaw", 8_000, "mono"),
    ("wav", "adpcm_ms", 22_050, "stereo"),
    ("wav", "pcm_s16le", 16_000, "mono"),
    ("aiff", "pcm_s16be", 44_100, "stereo"),
    ("aiff", "pcm_s24be", 48_000, "5.1"),
    ("mp3", "libmp3lame", 44_100, "stereo"),
    ("mp3", "libmp3lame", 16_000, "mono"),
    ("mp3", "libmp3lame", 8_000, "mono"),
    ("flac", "flac", 96_000, "stereo"),
    ("flac", "flac", 44_100, "5.1"),
    ("ogg", "libopus", 48_000, "stereo"),
    ("ogg", "libopus", 16_000, "mono"),
    ("ogg", "vorbis", 44_100, "stereo"),
    ("ogg", "flac", 48_000, "mono"),
    ("adts", "aac", 44_100, "stereo"),
    ("ipod", "aac", 44_100, "stereo"),
    ("mp4", "aac", 8_000, "mono"),
    ("mp4", "aac", 96_000, "5.1"),
    ("mov", "alac", 44_100, "stereo"),
    ("mov", "pcm_s16be", 48_000, "stereo"),
    ("mp4", "ac3", 48_000, "5.1"),
    ("webm", "libopus", 48_000, "5.1"),
    ("matroska", "libopus", 48_000, "mono"),
    ("matroska", "pcm_s16le", 11_025, "stereo"),
    ("matroska", "aac", 48_000, "stereo"),
]


@pytest.mark.parametrize(("format", "codec", "rate", "layout"), FORMATS)
def test_every_common_format_becomes_mono_at_16_khz(format: str, codec: str, rate: int, layout: str) -> None:
    audio = decode_audio(recording(format, codec, rate, layout), 120)
    with wave.open(io.BytesIO(audio.wav)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert file.getnframes() / 16_000 == audio.duration_s
    assert audio.sample_rate == 16_000
    assert audio.duration_s == pytest.approx(1, abs=0.3 if rate == 8_000 else 0.1)
    assert pitch_hz(audio.wav) == pytest.approx(440, abs=3)
    assert 0.2 < np.abs(samples_of(audio.wav)).max() <= 1


def test_sound_that_needs_no_change_is_not_changed() -> None:
    samples = tone(16_000, 0.5)
    assert samples_of(decode_audio(raw_wav(pcm(samples)), 9).wav) == pytest.approx(samples, abs=2e-4)


def test_other_rates_are_made_too() -> None:
    audio = decode_audio(recording(rate=44_100), 9, sample_rate=24_000)
    assert (audio.sample_rate, audio.duration_s) == (24_000, 1)
    assert pitch_hz(audio.wav, 24_000) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("format", ["mp4", "webm", "matroska", "mov"])
def test_sound_of_a_video_is_audio(format: str) -> None:
    codecs = {"webm": ("libvpx", "libopus")}.get(format, ("libx264", "aac"))
    audio = decode_audio(film(format, codecs[0], sound=codecs[1]), 9)
    assert audio.duration_s == pytest.approx(1, abs=0.1)
    assert pitch_hz(audio.wav) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("channels", [3, 4, 5, 7, 8, 10, 16])
def test_any_number_of_channels_is_mixed(channels: int) -> None:
    data = np.repeat(np.frombuffer(pcm(tone(8_000, 0.5)), "<i2")[:, None], channels, 1).tobytes()
    assert decode_audio(raw_wav(data, channels, 8_000), 9).duration_s == 0.5


def test_stream_that_changes_in_the_middle_is_read_to_its_end() -> None:
    """Files put one behind another are common in MP3; the second is of another kind."""
    parts = [recording("adts", "aac", 44_100, "stereo"), recording("adts", "aac", 22_050, "mono")]
    audio = decode_audio(b"".join(parts), 9)
    assert audio.duration_s == pytest.approx(2, abs=0.3)


def test_holes_in_time_are_not_filled() -> None:
    data = recording("adts", "aac", 16_000)
    whole, cut = decode_audio(data, 9), decode_audio(data[: len(data) // 3] + data[len(data) // 2 :], 9)
    assert 0.3 < cut.duration_s < whole.duration_s


# Limits


def test_audio_at_the_limit_is_read_and_above_it_is_not() -> None:
    for format, codec in (("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("ipod", "aac")):
        data = recording(format, codec, 16_000, seconds=2)
        assert decode_audio(data, 2).duration_s == pytest.approx(2, abs=0.1)
        with pytest.raises(MediaTooLarge, match=r"longer than the 1\.5 s that OMNI_MAX_AUDIO_S allows"):
            decode_audio(data, 1.5)


def test_declared_length_does_not_count_against_the_limit_nor_for_it() -> None:
    hour = 3_600 * 32_000
    with pytest.raises(MediaUnreadable, match=r"cut off: it declares 3600\.0 s, and there are 1\.0 s"):
        decode_audio(raw_wav(pcm(tone(16_000, 1)), riff_size=hour + 36, data_size=hour), 120)
    long = pcm(tone(16_000, 5))
    with pytest.raises(MediaTooLarge, match="OMNI_MAX_AUDIO_S"):
        decode_audio(raw_wav(long, riff_size=2**32 - 1, data_size=2**32 - 1), 3)


@pytest.mark.parametrize("size", [0, 0x7FFF_F024, 2**32 - 1])
def test_wav_written_into_a_pipe_is_whole(size: int) -> None:
    audio = decode_audio(raw_wav(pcm(tone(16_000, 1)), riff_size=size, data_size=max(0, size - 36)), 9)
    assert audio.duration_s == 1


def test_sound_that_unpacks_to_much_takes_neither_memory_nor_time() -> None:
    """A constant is packed to a thousandth by FLAC."""
    bomb = recording("flac", "flac", 8_000, samples=np.full(8_000 * 600, 0.25))
    assert len(bomb) < 120_000
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(MediaTooLarge, match="OMNI_MAX_AUDIO_S"):
        decode_audio(bomb, 10)
    took_s, (_, peak_bytes) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took_s < 2
    assert peak_bytes < 4_000_000


@pytest.mark.parametrize(
    ("channels", "rate", "bits"), [(1, 0, 16), (1, 3, 16), (1, 2**31 - 1, 16), (200, 8_000, 16), (1, 8_000, 1_000)]
)
def test_absurd_header_is_an_error(channels: int, rate: int, bits: int) -> None:
    with pytest.raises(MediaUnreadable):
        decode_audio(raw_wav(pcm(tone(16_000, 1)) * 4, channels, rate, bits), 9)


# What is no sound


@pytest.mark.parametrize("seconds", [0, 0.01, 0.09])
def test_empty_audio_is_an_error(seconds: float) -> None:
    for data in (raw_wav(pcm(tone(16_000, seconds))), recording("aiff", "pcm_s16be", seconds=seconds)):
        with pytest.raises(MediaUnreadable, match=rf"The audio is empty: .* {MIN_AUDIO_S} s is the least"):
            decode_audio(data, 9)


SILENT = {
    "zeros": np.zeros(16_000),
    "a muted microphone": np.random.default_rng(1).normal(0, 0.000_1, 16_000),
    "a constant": np.full(16_000, 0.6),
}


@pytest.mark.parametrize("name", SILENT)
def test_silence_is_an_error(name: str) -> None:
    for data in (raw_wav(pcm(SILENT[name])), recording("flac", "flac", samples=SILENT[name])):
        with pytest.raises(MediaUnreadable, match=r"The audio is silent: .* below -60 dBFS"):
            decode_audio(data, 9)


def test_channels_that_cancel_each_other_are_silent() -> None:
    left = np.frombuffer(pcm(tone(16_000, 1)), "<i2")
    with pytest.raises(MediaUnreadable, match="mixed to one channel"):
        decode_audio(raw_wav(np.stack([left, -left], 1).tobytes(), 2), 9)


def test_quiet_voice_and_a_voice_after_silence_are_sound() -> None:
    assert decode_audio(raw_wav(pcm(tone(16_000, 1, loudness=0.003))), 9).duration_s == 1
    late = np.concatenate([np.zeros(48_000), tone(16_000, 0.2)])
    assert decode_audio(recording("flac", "flac", samples=late), 9).duration_s == pytest.approx(3.2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_floats_beyond_all_measure_do_no_harm(value: float) -> None:
    with pytest.raises(MediaUnreadable, match="silent"):
        decode_audio(raw_wav(np.full(16_000, value, "<f4").tobytes(), bits=32, tag=3), 9)
    mixed = tone(16_000, 1).astype("<f4")
    mixed[5_000] = value
    assert decode_audio(raw_wav(mixed.tobytes(), bits=32, tag=3), 9).duration_s == 1


NO_SOUND = {
    "text": b"hello " * 500,
    "UTF-16 text": "hello ".encode("utf-16") * 500,
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "JSON": b'{"error": "not found"}',
    "0xff": b"\xff" * 5_000,
    "zeros": bytes(5_000),
    "a PDF": b"%PDF-1.7\n" + bytes(500),
    "a ZIP": b"PK\x03\x04" + bytes(500),
    "an AVI": b"RIFF\xff\0\0\0AVI LIST" + bytes(500),
    "a WebP": b"RIFF\xff\0\0\0WEBPVP8 " + bytes(500),
}


@pytest.mark.parametrize("name", NO_SOUND)
def test_what_is_no_audio_is_an_error_that_says_what_is(name: str) -> None:
    with pytest.raises(MediaUnreadable, match=r"not audio in a readable format; readable are WAV, .* and Matroska\."):
        decode_audio(NO_SOUND[name], 9)


def test_joined_recordings_are_read_to_the_end() -> None:
    one = recording(seconds=1)
    assert decode_audio(one * 3, 9).duration_s == pytest.approx(3, abs=0.05)
    with pytest.raises(MediaUnreadable, match="several WAV files one after another"):
        decode_audio(one + recording(rate=8_000, seconds=1), 9)


@pytest.mark.parametrize("data_size", [2_000_000_000, 0xFFFF_FFFF, 500_000_000])
def test_recording_whose_length_is_made_up_is_read_as_far_as_it_goes(data_size: int) -> None:
    assert decode_audio(raw_wav(pcm(tone(16_000, 2)), data_size=data_size), 9).duration_s == pytest.approx(2)


def test_picture_in_place_of_audio_is_an_error(encoded: Any) -> None:
    for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        with pytest.raises(MediaUnreadable, match="not audio in a readable format"):
            decode_audio(encoded(format), 9)


def test_video_without_sound_is_an_error() -> None:
    for format in ("mp4", "matroska"):
        with pytest.raises(MediaUnreadable, match="it is a video without sound"):
            decode_audio(film(format), 9)


# Damage


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.6, 0.8])
@pytest.mark.parametrize(
    ("format", "codec"),
    [
        ("wav", "pcm_s16le"),
        ("aiff", "pcm_s16be"),
        ("flac", "flac"),
        ("ipod", "aac"),
        ("mp3", "libmp3lame"),
        ("webm", "libopus"),
    ],
)
def test_cut_file_is_an_error(format: str, codec: str, share: float) -> None:
    data = recording(format, codec, 48_000, seconds=3)
    with pytest.raises(MediaUnreadable, match=r"cut off|empty|readable format"):
        decode_audio(data[: int(len(data) * share)], 9)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6, 0.8])
@pytest.mark.parametrize(("format", "codec"), [("adts", "aac"), ("ogg", "libopus"), ("ogg", "vorbis")])
def test_cut_stream_that_declares_no_length_is_read_as_far_as_it_goes(format: str, codec: str, share: float) -> None:
    data = recording(format, codec, 48_000, "stereo", seconds=3)
    duration_s = 0.0
    with contextlib.suppress(MediaUnreadable):
        duration_s = decode_audio(data[: int(len(data) * share)], 9).duration_s
    assert (share > 0.5) * 0.1 <= duration_s < 3.2 * share + 0.2


@pytest.mark.parametrize(
    ("format", "codec"), [(format, codec) for format, codec, _, layout in FORMATS if layout == "stereo"]
)
def test_random_damage_is_an_error_or_sound(format: str, codec: str) -> None:
    whole = recording(format, codec, 44_100 if "opus" not in codec else 48_000, "stereo", seconds=0.5)
    random = np.random.default_rng(7)
    for _ in range(30):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 20):
            data[place] = random.integers(256)
        with contextlib.suppress(MediaError):
            audio = decode_audio(bytes(data), 20)
            assert len(audio.wav) == 44 + round(audio.duration_s * 32_000)


def test_stray_bytes_behind_an_mp3_do_no_harm() -> None:
    data = recording("mp3", "libmp3lame", 44_100)
    for tail in (b"TAG" + b"a title".ljust(125, b"\0"), b"APETAGEX" + bytes(200), b"junk" * 100):
        assert decode_audio(data + tail, 9).duration_s == pytest.approx(1, abs=0.1)


# References


def test_all_references_to_audio_lead_to_the_same(reader: AudioReader, server: Any, tmp_path: Path) -> None:
    data = recording("mp3", "libmp3lame", 44_100)
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
    (tmp_path / "a.wav").write_bytes(recording())
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
    (tmp_path / name).write_bytes(recording())
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
    (outside / "a.wav").write_bytes(recording())
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
    server.answer("/a.wav", recording())
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_HOSTS"):
        AudioReader(MediaSettings(), DECODER).read(server.url("/a.wav"))
    assert server.seen == []


def test_limit_of_bytes_holds_for_every_source(server: Any, tmp_path: Path) -> None:
    reader = AudioReader(MediaSettings(max_audio_bytes=1_000, allowed_hosts=("127.0.0.1",)), DECODER)
    data = recording()
    (tmp_path / "a.wav").write_bytes(data)
    server.answer("/a.wav", data)
    for reference in (
        str(tmp_path / "a.wav"),
        server.url("/a.wav"),
        f"data:audio/wav;base64,{base64.b64encode(data).decode()}",
    ):
        with pytest.raises(MediaTooLarge, match="VLLM_MAX_AUDIO_BYTES") as caught:
            reader.read(reference)
        assert "picture" not in str(caught.value)


def test_length_limit_is_that_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(recording(seconds=2))
    with pytest.raises(MediaTooLarge, match="the 1 s that OMNI_MAX_AUDIO_S"):
        AudioReader(MediaSettings(max_audio_s=1), DECODER).read(str(tmp_path / "a.wav"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("data:image/png;base64,AAAA", r'"image/png" is not that of audio; expected is audio/… or video/… or'),
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


def test_nothing_is_written_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    for data in (recording("mp3", "libmp3lame", 44_100)[:900], b"OggS" + bytes(90), recording("flac", "flac")[:2_000]):
        with pytest.raises(MediaUnreadable):
            decode_audio(data, 9)
    assert capfd.readouterr() == ("", "")


def test_two_minutes_of_mp3_are_decoded_in_less_than_a_second() -> None:
    data = recording("mp3", "libmp3lame", 44_100, "stereo", seconds=10) * 12
    took_s = []
    for _ in range(3):
        began = time.process_time()
        assert decode_audio(data, 122).duration_s > 119
        took_s.append(time.process_time() - began)
    assert min(took_s) < 1
