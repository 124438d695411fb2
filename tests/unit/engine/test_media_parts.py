"""Audio and videos as vLLM gets them: samples and frames that need no decoding."""

from __future__ import annotations

import base64
import io
import struct
import wave
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from engine.errors import InvalidGeneration
from engine.interface import AudioPart, Message, VideoPart
from engine.local.inputs import frame_reader
from engine.parts import Media
from engine.prompts.media_parts import (
    float_wav,
    frame_metadata,
    packed_frames,
    pcm_wav,
    resampled,
    unpacked_frames,
    vllm_part,
)
from engine.prompts.rendering import Renderer, TokenBreaker, check_messages, not_accepted

RATE = 16_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype("<f4")
SOUND = AudioPart(TONE.tobytes(), "audio-1")


def video(n_frames: int = 4, size: tuple[int, int] = (48, 40), fps: float | None = 8.0, every: int = 2) -> VideoPart:
    """A video of which every second frame is taken."""
    frames = tuple(Image.effect_noise(size, 90).convert("RGB") for _ in range(n_frames))
    times_s = tuple(number * every / (fps or 1) for number in range(n_frames))
    return VideoPart(frames, times_s, n_frames * every / (fps or 1), fps, "video-1")


def decoded(wav: bytes) -> tuple[Any, int]:
    """The samples that FFmpeg reads from a WAV file."""
    with av.open(io.BytesIO(wav), "r") as container:
        (stream,) = container.streams.audio
        blocks = [frame.to_ndarray() for frame in container.decode(stream)]
        return np.concatenate(blocks, axis=1)[0], stream.rate


def test_audio_is_a_wav_of_floats_with_the_same_samples() -> None:
    part = vllm_part(SOUND, RATE)
    assert (part["type"], part["uuid"], part["input_audio"]["format"]) == ("input_audio", "audio-1", "wav")
    samples, rate = decoded(base64.b64decode(part["input_audio"]["data"]))
    assert rate == RATE
    assert samples.dtype == np.float32
    assert np.array_equal(samples, TONE)


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
def test_audio_is_resampled_to_the_models_rate(rate: int) -> None:
    part = vllm_part(SOUND, rate)
    samples, found = decoded(base64.b64decode(part["input_audio"]["data"]))
    assert found == rate
    assert len(samples) == pytest.approx(rate, abs=rate // 100)
    middle = samples[rate // 4 : rate // 2]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.02)
    crossings = np.count_nonzero(np.diff(np.signbit(middle)))
    assert crossings == pytest.approx(2 * 440 / 4, abs=2)


def test_own_rate_is_not_resampled() -> None:
    assert resampled(SOUND.samples, RATE) is SOUND.samples


def test_wav_for_other_servers_has_16_bits_and_is_cut_at_full_scale() -> None:
    loud = struct.pack("<5f", 0, 0.5, -0.5, 1.5, -1.5)
    with wave.open(io.BytesIO(pcm_wav(loud))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        assert struct.unpack("<5h", file.readframes(5)) == (0, 16_384, -16_384, 32_767, -32_768)
    assert float_wav(loud, RATE)[:4] == b"RIFF"


def test_frames_come_out_as_they_went_in() -> None:
    part = video()
    url = vllm_part(part, RATE)["video_url"]["url"]
    frames, metadata = unpacked_frames(base64.b64decode(url.partition(",")[2]))
    assert frames.shape == (4, 40, 48, 3)
    assert all(np.array_equal(mine, np.asarray(theirs)) for mine, theirs in zip(frames, part.frames, strict=True))
    assert metadata == {
        "total_num_frames": 8,
        "fps": 8.0,
        "duration": 1.0,
        "frames_indices": [0, 2, 4, 6],
        "do_sample_frames": False,
    }


def test_small_frames_are_enlarged_as_images_are() -> None:
    frames, _ = unpacked_frames(packed_frames(video(size=(8, 16))))
    assert min(frames.shape[1:3]) >= 32


@pytest.mark.parametrize(
    ("times_s", "duration_s", "fps", "indices", "total"),
    [
        ((0.0,), 0.0, None, [0], 1),
        ((0.0, 1.0), 2.0, None, [0, 1], 2),
        ((0.04, 0.05), 0.1, 10.0, [0, 1], 2),
        ((0.0, 9.96), 10.0, 25.0, [0, 249], 250),
    ],
)
def test_metadata_tell_the_times(
    times_s: tuple[float, ...], duration_s: float, fps: float | None, indices: list[int], total: int
) -> None:
    frames = video(len(times_s)).frames
    metadata = frame_metadata(VideoPart(frames, times_s, duration_s, fps, "video-2"))
    assert (metadata["frames_indices"], metadata["total_num_frames"]) == (indices, total)
    assert metadata["fps"] > 0


def test_reader_is_the_one_that_vllm_is_told() -> None:
    assert frame_reader.MEDIA_IO_KWARGS["video"]["video_backend"] == frame_reader.NAME


# What a model takes


def rendered(*media: Media, accepts: tuple[str, ...] = ("image", "audio", "video")) -> Any:
    breaker = TokenBreaker(())
    renderer = Renderer("org/model", accepts=accepts, max_images=2, break_tokens=breaker, audio_rate=RATE)
    return renderer.chat_messages([Message("user", media)])[0]["content"]


def test_parts_keep_their_order() -> None:
    assert [part["type"] for part in rendered(SOUND, video(), SOUND)] == ["input_audio", "video_url", "input_audio"]


@pytest.mark.parametrize(("part", "words"), [(SOUND, "3 audio parts"), (video(), "3 videos")])
def test_too_many_of_a_kind_are_refused(part: Media, words: str) -> None:
    with pytest.raises(InvalidGeneration, match=f"The prompt has {words}; the maximum is 2"):
        rendered(part, part, part)


def test_each_kind_has_its_own_limit() -> None:
    check_messages([Message("user", (SOUND, SOUND, video(), video()))], 2)


@pytest.mark.parametrize(
    ("part", "accepts", "words"),
    [
        (SOUND, ("image",), "org/model does not accept audio"),
        (video(), ("image",), "org/model does not accept videos. analyze_video asks it about the frames"),
        (video(), (), "org/model does not accept videos. Send text only"),
    ],
)
def test_model_that_does_not_take_a_kind_is_named(part: Media, accepts: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidGeneration, match=words):
        rendered(part, accepts=accepts)
    assert words in not_accepted(part.kind, "org/model", accepts)
