"""Audio and videos for other servers: what each kind of server takes."""

from __future__ import annotations

import base64
import io
import struct
import wave
from typing import Any

import pytest
from PIL import Image

from engine.interface import AudioPart, Conversation, Message, Sampling, TextPart, VideoPart
from engine.parts import Media
from engine.prompts.media_parts import float_wav, pcm_wav
from engine.remote.media_parts import MediaPart, with_media
from engine.remote.requests import Endpoint, OpenAIRequests

VLLM = Endpoint("http://vllm:8000", "m", is_vllm=True, max_model_len=100)
OTHER = Endpoint("https://other.example", "m", is_vllm=False)
DASHSCOPE = Endpoint("https://dashscope.aliyuncs.com/compatible-mode/v1", "m", is_vllm=False)
SOUND = AudioPart(struct.pack("<2f", 0.5, -0.25) * 8_000, "audio-1")
CLIP = VideoPart(
    tuple(Image.new("RGB", (40, 40), (shade, 0, 0)) for shade in (0, 250)), (0.25, 0.75), 1.0, 8.0, "video-1"
)


def body(endpoint: Endpoint, *parts: Media) -> dict[str, Any]:
    conversation = Conversation((Message("user", (TextPart("What?"), *parts)),), Sampling(0.0, 1))
    return OpenAIRequests(endpoint, max_images=2).body(conversation)


def content(endpoint: Endpoint, *parts: Media) -> Any:
    return body(endpoint, *parts)["messages"][0]["content"]


def test_vllm_gets_32_bit_floats_since_it_leaves_16_bits_unscaled() -> None:
    _, sound = content(VLLM, SOUND)
    wav = base64.b64decode(sound["input_audio"]["data"])
    assert wav == float_wav(SOUND.samples, 16_000)
    body = {"messages": [{"role": "user", "content": "What?"}]}
    attached = with_media(body, (MediaPart("audio", pcm_wav(SOUND.samples), "audio/wav"),), is_vllm=True)
    assert base64.b64decode(attached["messages"][0]["content"][1]["input_audio"]["data"]) == wav


@pytest.mark.parametrize(("endpoint", "prefix"), [(OTHER, ""), (DASHSCOPE, "data:;base64,")])
def test_audio_is_a_wav_of_16_bits(endpoint: Endpoint, prefix: str) -> None:
    text, sound = content(endpoint, SOUND)
    assert text == {"type": "text", "text": "What?"}
    assert (sound["type"], sound["input_audio"]["format"]) == ("input_audio", "wav")
    data = sound["input_audio"]["data"]
    assert data.startswith(prefix)
    with wave.open(io.BytesIO(base64.b64decode(data.removeprefix(prefix)))) as file:
        assert file.getparams()[:4] == (1, 2, 16_000, 16_000)


def test_vllm_gets_the_frames_of_a_video_and_their_times() -> None:
    made = body(VLLM, CLIP)
    _, clip = made["messages"][0]["content"]
    head, _, frames = clip["video_url"]["url"].partition(",")
    assert head == "data:video/jpeg;base64"
    shades = [Image.open(io.BytesIO(base64.b64decode(frame))).getpixel((20, 20)) for frame in frames.split(",")]
    assert [shade[0] > 200 for shade in shades if isinstance(shade, tuple)] == [False, True]
    assert made["media_io_kwargs"] == {
        "video": {
            "num_frames": -1,
            "total_num_frames": 8,
            "fps": 8.0,
            "duration": 1.0,
            "frames_indices": [2, 6],
            "do_sample_frames": False,
        }
    }


def test_times_of_several_videos_cannot_be_told() -> None:
    other = VideoPart(CLIP.frames, (1.0, 2.0), 9.0, 8.0, "video-2")
    assert body(VLLM, CLIP, other)["media_io_kwargs"] == {"video": {"num_frames": -1}}
    assert "media_io_kwargs" not in body(VLLM, SOUND)


def test_other_servers_get_frames_as_images_after_their_times() -> None:
    made = body(OTHER, CLIP)
    _, told, *images = made["messages"][0]["content"]
    assert told == {"type": "text", "text": "The next 2 images are frames of a video of 1.0 s, at 0.2, 0.8 s."}
    assert [image["type"] for image in images] == ["image_url"] * 2
    assert images[0] != images[1]
    assert "media_io_kwargs" not in made


def test_vllm_reads_the_frames_as_they_were_sent() -> None:
    """vLLM's own reader of such a URL, where it is installed."""
    video = pytest.importorskip("vllm.multimodal.media.video", reason="vLLM is not installed here")
    image = pytest.importorskip("vllm.multimodal.media.image", reason="vLLM is not installed here")
    made = body(VLLM, CLIP)
    _, _, data = made["messages"][0]["content"][1]["video_url"]["url"].partition(",")
    reader = video.VideoMediaIO(image.ImageMediaIO(), **made["media_io_kwargs"]["video"])
    frames, metadata = reader.load_base64("video/jpeg", data).media
    assert frames.shape == (2, 40, 40, 3)
    assert metadata["frames_indices"] == [2, 6]
    assert (metadata["total_num_frames"], metadata["fps"], metadata["do_sample_frames"]) == (8, 8.0, False)
