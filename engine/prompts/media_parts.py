"""Images, audio and videos as parts of vLLM's chat messages, in forms that vLLM takes as they are.

vLLM 0.32 decodes what is in a data URL. Audio is sent as samples that need no decoding: its reader leaves 16-bit
samples unscaled, 32,768 times too loud, and cannot resample without torchaudio. The frames of a video are sent as they
are, for the reader of `engine.local.inputs.frame_reader`.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.parts import AUDIO_RATE, BYTES_PER_SAMPLE, AudioPart, ImagePart, Media, VideoPart

if TYPE_CHECKING:
    from PIL.Image import Image

# Image processors divide by a side or by a patch count; 1x1 and 1x30000 have crashed some (CVE-2026-22773).
MIN_SIDE = 32
MAX_ELONGATED = 50

_IEEE_FLOAT, _PCM = 3, 1


def vllm_part(part: Media, audio_rate: int) -> dict[str, Any]:
    """A part of a message for `LLM.chat`.

    Arguments:
        part: the image, audio or video.
        audio_rate: the model's own rate in Hz.
    """
    if isinstance(part, ImagePart):
        return {"type": "image_pil", "image_pil": processable(part.image), "uuid": part.digest}
    if isinstance(part, AudioPart):
        wav = float_wav(resampled(part.samples, audio_rate), audio_rate)
        audio = {"data": base64.b64encode(wav).decode("ascii"), "format": "wav"}
        return {"type": "input_audio", "input_audio": audio, "uuid": part.digest}
    data = base64.b64encode(packed_frames(part)).decode("ascii")
    return {"type": "video_url", "video_url": {"url": f"data:video/x-frames;base64,{data}"}, "uuid": part.digest}


def float_wav(samples: bytes, rate: int) -> bytes:
    """A WAV file of mono 32-bit floats in little-endian order."""
    n_samples = len(samples) // BYTES_PER_SAMPLE
    fact = b"fact" + struct.pack("<II", 4, n_samples)
    return _wav(_IEEE_FLOAT, BYTES_PER_SAMPLE, rate, struct.pack("<H", 0), fact, samples)


def pcm_wav(samples: bytes, rate: int = AUDIO_RATE) -> bytes:
    """A WAV file of signed 16-bit samples, the most common form, from 32-bit floats."""
    import numpy as np

    floats = np.frombuffer(samples, "<f4")
    return _wav(_PCM, 2, rate, b"", b"", np.clip(np.rint(floats * 32_768), -32_768, 32_767).astype("<i2").tobytes())


def as_float_wav(wav: bytes) -> bytes:
    """A WAV file of signed 16-bit mono samples as one of 32-bit floats."""
    import numpy as np

    with wave.open(io.BytesIO(wav)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return float_wav((samples / np.float32(32_768)).astype("<f4").tobytes(), file.getframerate())


def _wav(code: int, width: int, rate: int, more_format: bytes, fact: bytes, data: bytes) -> bytes:
    form = struct.pack("<HHIIHH", code, 1, rate, rate * width, width, 8 * width) + more_format
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + fact + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def resampled(samples: bytes, rate: int) -> bytes:
    """The samples at another rate than `AUDIO_RATE`."""
    if rate == AUDIO_RATE:
        return samples
    import av
    import numpy as np

    frame = av.AudioFrame.from_ndarray(np.frombuffer(samples, "<f4").reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate = AUDIO_RATE
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return b"".join(each.to_ndarray().astype("<f4").tobytes() for each in frames)


def packed_frames(part: VideoPart) -> bytes:
    """The frames for `unpacked_frames`: a line of JSON, then their pixels."""
    frames = [processable(frame) for frame in part.frames]
    width, height = frames[0].size
    head = {"shape": (len(frames), height, width, 3), "metadata": frame_metadata(part)}
    return b"".join([json.dumps(head).encode("ascii"), b"\n", *(frame.tobytes() for frame in frames)])


def unpacked_frames(data: bytes) -> tuple[Any, dict[str, Any]]:
    """The frames as an array of uint8 of shape (count, height, width, 3), and their metadata."""
    import numpy as np

    head, _, pixels = data.partition(b"\n")
    told = json.loads(head)
    return np.frombuffer(bytearray(pixels), np.uint8).reshape(told["shape"]), told["metadata"]


def frame_metadata(part: VideoPart) -> dict[str, Any]:
    """Which frames of the video these are, in vLLM's words; models with timestamps compute the times from it."""
    fps = part.fps or len(part.frames) / (part.duration_s or 1.0)
    indices = frame_indices(part.times_s, fps)
    n_frames = max(indices[-1] + 1, round(part.duration_s * fps))
    return {
        "total_num_frames": n_frames,
        "fps": fps,
        "duration": n_frames / fps,
        "frames_indices": indices,
        "do_sample_frames": False,
    }


def frame_indices(times_s: Sequence[float], fps: float) -> list[int]:
    """The numbers of frames by their times, each greater than the one before."""
    indices: list[int] = []
    for time_s in times_s:
        indices.append(max(round(time_s * fps), indices[-1] + 1 if indices else 0))
    return indices


def processable(image: Image) -> Image:
    """The image, changed if it is so small or elongated that image processors fail.

    An elongated image gets white margins (and is shrunk first if these would be large); a small one is enlarged.
    """
    short, long = sorted(image.size)
    if long > MAX_ELONGATED * short:
        image = _with_margins(image, short, long)
        short = min(image.size)
    if short < MIN_SIDE:
        scale = MIN_SIDE / short
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    return image


def _with_margins(image: Image, short: int, long: int) -> Image:
    from PIL import Image as images

    target_long = min(long, MAX_ELONGATED * max(short, MIN_SIDE))
    scale = target_long / long
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    target_short = -(-target_long // MAX_ELONGATED)
    size = (target_short, target_long) if image.height > image.width else (target_long, target_short)
    canvas = images.new("RGB", size, (255, 255, 255))
    canvas.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    return canvas
