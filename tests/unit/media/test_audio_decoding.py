"""Audio in any format becomes mono at 16 kHz; other data, silence and damage are errors."""

from __future__ import annotations

import contextlib
import io
import time
import tracemalloc
import wave
from typing import Any

import numpy as np
import pytest

from media.decoding.audio import MIN_AUDIO_S, decode_audio
from media.errors import MediaError, MediaTooLarge, MediaUnreadable
from tests.unit.media.sample_media import audio_file, pcm, raw_wav, samples_of, tone, tone_file, video_file

pytestmark = pytest.mark.slow


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
    audio = decode_audio(audio_file(format, codec, rate, layout), 120)
    with wave.open(io.BytesIO(audio.wav)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert file.getnframes() / 16_000 == audio.duration_s
    assert audio.sample_rate == 16_000
    assert audio.duration_s == pytest.approx(1, abs=0.3 if rate == 8_000 else 0.1)
    assert pitch_hz(audio.wav) == pytest.approx(440, abs=3)
    assert 0.2 < np.abs(samples_of(audio.wav)).max() <= 1


def test_audio_that_needs_no_change_is_not_changed() -> None:
    samples = tone(16_000, 0.5)
    assert samples_of(decode_audio(raw_wav(pcm(samples)), 9).wav) == pytest.approx(samples, abs=2e-4)


def test_other_rates_are_made_too() -> None:
    audio = decode_audio(audio_file(rate=44_100), 9, sample_rate=24_000)
    assert (audio.sample_rate, audio.duration_s) == (24_000, 1)
    assert pitch_hz(audio.wav, 24_000) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("format", ["mp4", "webm", "matroska", "mov"])
def test_audio_track_of_a_video_is_read(format: str) -> None:
    codecs = {"webm": ("libvpx", "libopus")}.get(format, ("libx264", "aac"))
    audio = decode_audio(video_file(format, codecs[0], audio=codecs[1]), 9)
    assert audio.duration_s == pytest.approx(1, abs=0.1)
    assert pitch_hz(audio.wav) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("channels", [3, 4, 5, 7, 8, 10, 16])
def test_any_number_of_channels_is_mixed(channels: int) -> None:
    data = np.repeat(np.frombuffer(pcm(tone(8_000, 0.5)), "<i2")[:, None], channels, 1).tobytes()
    assert decode_audio(raw_wav(data, channels, 8_000), 9).duration_s == 0.5


def test_stream_that_changes_in_the_middle_is_read_to_its_end() -> None:
    """Files put one behind another are common in MP3; the second is of another kind."""
    parts = [audio_file("adts", "aac", 44_100, "stereo"), audio_file("adts", "aac", 22_050, "mono")]
    audio = decode_audio(b"".join(parts), 9)
    assert audio.duration_s == pytest.approx(2, abs=0.3)


def test_holes_in_time_are_not_filled() -> None:
    data = audio_file("adts", "aac", 16_000)
    whole, cut = decode_audio(data, 9), decode_audio(data[: len(data) // 3] + data[len(data) // 2 :], 9)
    assert 0.3 < cut.duration_s < whole.duration_s


# Limits


def test_audio_at_the_limit_is_read_and_above_it_is_not() -> None:
    for format, codec in (("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("ipod", "aac")):
        data = audio_file(format, codec, 16_000, seconds=2)
        assert decode_audio(data, 2).duration_s == pytest.approx(2, abs=0.1)
        with pytest.raises(MediaTooLarge, match=r"longer than the 1\.5 s that OMNI_MAX_AUDIO_S allows"):
            decode_audio(data, 1.5)


def test_declared_length_does_not_count_against_the_limit_nor_for_it() -> None:
    hour = 3_600 * 32_000
    with pytest.raises(MediaUnreadable, match=r"cut off: its header declares 3600\.0 s, and it has 1\.0 s"):
        decode_audio(raw_wav(pcm(tone(16_000, 1)), riff_size=hour + 36, data_size=hour), 120)
    long = pcm(tone(16_000, 5))
    with pytest.raises(MediaTooLarge, match="OMNI_MAX_AUDIO_S"):
        decode_audio(raw_wav(long, riff_size=2**32 - 1, data_size=2**32 - 1), 3)


@pytest.mark.parametrize("size", [0, 0x7FFF_F024, 2**32 - 1])
def test_wav_written_into_a_pipe_is_whole(size: int) -> None:
    audio = decode_audio(raw_wav(pcm(tone(16_000, 1)), riff_size=size, data_size=max(0, size - 36)), 9)
    assert audio.duration_s == 1


def test_audio_bomb_takes_neither_memory_nor_time() -> None:
    """A constant is packed to a thousandth by FLAC."""
    bomb = audio_file("flac", "flac", 8_000, samples=np.full(8_000 * 600, 0.25))
    assert len(bomb) < 120_000
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(MediaTooLarge, match="OMNI_MAX_AUDIO_S"):
        decode_audio(bomb, 10)
    took_s, (_, peak_bytes) = time.process_time() - began, tracemalloc.get_traced_memory()
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
    for data in (raw_wav(pcm(tone(16_000, seconds))), audio_file("aiff", "pcm_s16be", seconds=seconds)):
        with pytest.raises(MediaUnreadable, match=rf"The audio is too short: .* minimum is {MIN_AUDIO_S} s"):
            decode_audio(data, 9)


SILENT = {
    "zeros": np.zeros(16_000),
    "a muted microphone": np.random.default_rng(1).normal(0, 0.000_1, 16_000),
    "a constant": np.full(16_000, 0.6),
}


@pytest.mark.parametrize("name", SILENT)
def test_silence_is_an_error(name: str) -> None:
    for data in (raw_wav(pcm(SILENT[name])), audio_file("flac", "flac", samples=SILENT[name])):
        with pytest.raises(MediaUnreadable, match=r"The audio is silent: .* below -60 dBFS"):
            decode_audio(data, 9)


def test_channels_that_cancel_each_other_are_silent() -> None:
    left = np.frombuffer(pcm(tone(16_000, 1)), "<i2")
    with pytest.raises(MediaUnreadable, match="mixed to mono"):
        decode_audio(raw_wav(np.stack([left, -left], 1).tobytes(), 2), 9)


def test_quiet_voice_and_a_voice_after_silence_are_audio() -> None:
    assert decode_audio(raw_wav(pcm(tone(16_000, 1, loudness=0.003))), 9).duration_s == 1
    late = np.concatenate([np.zeros(48_000), tone(16_000, 0.2)])
    assert decode_audio(audio_file("flac", "flac", samples=late), 9).duration_s == pytest.approx(3.2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_infinite_samples_do_no_harm(value: float) -> None:
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
def test_other_data_is_an_error_that_names_the_formats(name: str) -> None:
    with pytest.raises(MediaUnreadable, match=r"not audio in a supported format; supported are WAV, .* and Matroska\."):
        decode_audio(NO_SOUND[name], 9)


def test_joined_files_are_read_to_the_end() -> None:
    one = audio_file(seconds=1)
    assert decode_audio(one * 3, 9).duration_s == pytest.approx(3, abs=0.05)
    with pytest.raises(MediaUnreadable, match="concatenation of WAV files"):
        decode_audio(one + audio_file(rate=8_000, seconds=1), 9)


@pytest.mark.parametrize("data_size", [2_000_000_000, 0xFFFF_FFFF, 500_000_000])
def test_file_with_a_placeholder_length_is_read_to_its_end(data_size: int) -> None:
    assert decode_audio(raw_wav(pcm(tone(16_000, 2)), data_size=data_size), 9).duration_s == pytest.approx(2)


def test_image_in_place_of_audio_is_an_error(encoded: Any) -> None:
    for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        with pytest.raises(MediaUnreadable, match="not audio in a supported format"):
            decode_audio(encoded(format), 9)


def test_video_without_audio_is_an_error() -> None:
    for format in ("mp4", "matroska"):
        with pytest.raises(MediaUnreadable, match="it is a video without an audio track"):
            decode_audio(video_file(format), 9)


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
    data = tone_file(format, codec, 48_000, seconds=3)
    with pytest.raises(MediaUnreadable, match=r"cut off|empty|supported format"):
        decode_audio(data[: int(len(data) * share)], 9)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6, 0.8])
@pytest.mark.parametrize(("format", "codec"), [("adts", "aac"), ("ogg", "libopus"), ("ogg", "vorbis")])
def test_cut_stream_that_declares_no_length_is_read_as_far_as_it_goes(format: str, codec: str, share: float) -> None:
    data = tone_file(format, codec, 48_000, "stereo", seconds=3)
    duration_s = 0.0
    with contextlib.suppress(MediaUnreadable):
        duration_s = decode_audio(data[: int(len(data) * share)], 9).duration_s
    assert (share > 0.5) * 0.1 <= duration_s < 3.2 * share + 0.2


@pytest.mark.parametrize(
    ("format", "codec"), [(format, codec) for format, codec, _, layout in FORMATS if layout == "stereo"]
)
def test_random_damage_is_an_error_or_audio(format: str, codec: str) -> None:
    whole = audio_file(format, codec, 44_100 if "opus" not in codec else 48_000, "stereo", seconds=0.5)
    random = np.random.default_rng(7)
    for _ in range(12):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 20):
            data[place] = random.integers(256)
        with contextlib.suppress(MediaError):
            audio = decode_audio(bytes(data), 20)
            assert len(audio.wav) == 44 + round(audio.duration_s * 32_000)


def test_stray_bytes_behind_an_mp3_do_no_harm() -> None:
    data = audio_file("mp3", "libmp3lame", 44_100)
    for tail in (b"TAG" + b"a title".ljust(125, b"\0"), b"APETAGEX" + bytes(200), b"junk" * 100):
        assert decode_audio(data + tail, 9).duration_s == pytest.approx(1, abs=0.1)


def test_nothing_is_written_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    for data in (
        audio_file("mp3", "libmp3lame", 44_100)[:900],
        b"OggS" + bytes(90),
        audio_file("flac", "flac")[:2_000],
    ):
        with pytest.raises(MediaUnreadable):
            decode_audio(data, 9)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_two_minutes_of_mp3_are_decoded_in_less_than_a_second() -> None:
    data = audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=10) * 12
    took_s = []
    for _ in range(3):
        began = time.process_time()
        assert decode_audio(data, 122).duration_s > 119
        took_s.append(time.process_time() - began)
    assert min(took_s) < 1
