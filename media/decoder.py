"""Decodes images, audio and video in a child of the sandbox; images that are certainly harmless, in this process.

A hostile file may need gigabytes or hours, or crash a C library. Here it only fails its own call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from media.call_limits import NO_LIMITS, CallLimits
from media.decoding import audio, containers, frames, muxing, video
from media.decoding import images as decoding
from media.decoding.pixels import image_of, images_of
from media.decoding.safe_images import safe_image
from media.errors import MediaCancelled, MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from media.kinds import AUDIO, IMAGE, VIDEO, MediaKind
from sandbox.errors import (
    SandboxBusy,
    SandboxCancelled,
    SandboxError,
    SandboxFailed,
    SandboxMemory,
    SandboxTimeout,
    SandboxUnavailable,
)
from sandbox.limits import n_decoders
from settings import missing_media

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoding.audio import AudioFacts
    from sandbox.pool import Sandbox
    from sandbox.result import Result

IMAGE_TIMEOUT_S = 30.0
"""Seconds for one image. 50 megapixels of any format take 3 s on a slow, busy machine."""
HAS_VIDEO_TIMEOUT_S = 10.0
SPEECH_FIRST_S = 600.0
"""Seconds of speech for which the memory is allowed from the beginning; it grows with the samples."""
MARGIN_S = 2.0
"""Added to the timeouts that the child checks itself with a better error text; used when the child hangs."""

_KINDS = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (MediaNotFound, MediaForbidden, MediaTooLarge, MediaUnreadable)
}
_NOT_INSTALLED = {"builtins.ModuleNotFoundError", "builtins.ImportError"}
"""What `media.in_child.audio_video` raises without PyAV or numpy."""


class Decoder:
    """Decodes untrusted bytes. Any thread may call it.

    All methods raise `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._in_process = threading.BoundedSemaphore(n_decoders())

    def image(
        self, data: bytes, max_pixels: int, longest_side: int | None = None, limits: CallLimits = NO_LIMITS
    ) -> Image:
        """An image, as `media.decoding.images.decode` returns it."""
        safe = safe_image(data)
        if safe is not None:
            with self._in_process:
                return decoding.decode(safe.data, max_pixels, longest_side, safe.orientation)
        arguments = {"max_pixels": max_pixels, "longest_side": longest_side}
        ceiling = decoding.memory_bytes(max_pixels)
        work = _Work("decode_image", IMAGE, IMAGE_TIMEOUT_S, decoding.OPENING_BYTES, ceiling)
        image: Image = self._run(work, data, arguments, limits, _image)
        return image

    def audio(
        self, data: bytes, max_s: float, limits: CallLimits = NO_LIMITS, sample_rate: int = audio.SAMPLE_RATE
    ) -> audio.DecodedAudio:
        """Audio, as `media.decoding.audio.decode_audio` returns it."""
        bytes_per_s = audio.BYTES_PER_S * sample_rate / audio.SAMPLE_RATE
        work = _Work(
            "decode_audio", AUDIO, audio.DECODE_TIMEOUT_S, containers.OPENING_BYTES + round(max_s * bytes_per_s)
        )
        arguments = {"max_s": max_s, "sample_rate": sample_rate, "timeout_s": audio.DECODE_TIMEOUT_S}

        def taken(result: Result) -> audio.DecodedAudio:
            return audio.DecodedAudio(bytes(result.content), *result.value)

        decoded: audio.DecodedAudio = self._run(work, data, arguments, limits, taken)
        return decoded

    def check_audio(self, data: bytes, max_s: float) -> AudioFacts:
        """Decodes a generated audio file, as `media.decoding.audio.check_audio` does."""
        work = _speech_work("check_audio", max_s)
        arguments = {"max_s": max_s, "timeout_s": audio.SPEECH_TIMEOUT_S}
        facts: dict[str, Any] = self._run(work, data, arguments, NO_LIMITS, lambda result: result.value)
        return audio.AudioFacts(**facts)

    def speech(self, data: bytes, max_s: float, limits: CallLimits = NO_LIMITS) -> tuple[bytes, float]:
        """The samples and the duration of audio, as `media.decoding.audio.decode_speech` returns them."""
        work = _speech_work("decode_speech", max_s)
        arguments = {"max_s": max_s, "timeout_s": audio.SPEECH_TIMEOUT_S}
        decoded: tuple[bytes, float] = self._run(
            work, data, arguments, limits, lambda result: (bytes(result.content), result.value)
        )
        return decoded

    def clip(self, data: bytes, max_pixels: int, limits: CallLimits = NO_LIMITS) -> video.Clip:
        """A clip, as `media.decoding.video.read_clip` returns it."""
        ceiling = containers.OPENING_BYTES + video.CLIP_BYTES_PER_PIXEL * max_pixels
        work = _Work("read_clip", VIDEO, video.CLIP_TIMEOUT_S, containers.OPENING_BYTES, ceiling)
        arguments = {"max_pixels": max_pixels, "timeout_s": video.CLIP_TIMEOUT_S}

        def taken(result: Result) -> video.Clip:
            width, height, *facts = result.value
            return video.Clip(image_of(result.content, (width, height)), width, height, *facts)

        clip: video.Clip = self._run(work, data, arguments, limits, taken)
        return clip

    def frames(
        self,
        data: bytes,
        max_frames: int,
        max_pixels: int,
        start_s: float = 0.0,
        end_s: float | None = None,
        limits: CallLimits = NO_LIMITS,
    ) -> frames.VideoFrames:
        """Frames of a video, as `media.decoding.frames.sample_frames` returns them."""
        ceiling = frames.memory_bytes(max_pixels)
        work = _Work("sample_frames", VIDEO, frames.FRAMES_TIMEOUT_S, containers.OPENING_BYTES, ceiling)
        arguments = {
            "max_frames": max_frames,
            "max_pixels": max_pixels,
            "start_s": start_s,
            "end_s": end_s,
            "timeout_s": frames.FRAMES_TIMEOUT_S,
        }

        def taken(result: Result) -> frames.VideoFrames:
            sizes, (times_s, indices, *facts) = result.value
            images = images_of(result.content, [(width, height) for width, height in sizes])
            return frames.VideoFrames(images, tuple(times_s), tuple(indices), *facts)

        found: frames.VideoFrames = self._run(work, data, arguments, limits, taken)
        return found

    def check_video(self, data: bytes, timeout_s: float = video.CHECK_TIMEOUT_S) -> video.VideoFacts:
        """Decodes a generated video, as `media.decoding.video.check_video` does."""
        work = _generated_work("check_video", timeout_s)
        facts: dict[str, Any] = self._run(work, data, {"timeout_s": timeout_s}, NO_LIMITS, lambda result: result.value)
        return video.VideoFacts(**facts)

    def poster(self, data: bytes, limits: CallLimits = NO_LIMITS) -> Image:
        """A frame, as `media.decoding.video.poster` returns it."""
        work = _generated_work("poster", video.CLIP_TIMEOUT_S)
        image: Image = self._run(work, data, {}, limits, _image)
        return image

    def add_audio(self, data: bytes, wav: bytes) -> bytes:
        """A video with audio added, as `media.decoding.muxing.add_audio` returns it."""
        more_bytes = 2 * len(data) + 8 * len(wav)
        work = _generated_work("add_audio", muxing.MUX_TIMEOUT_S, more_bytes)
        muxed: bytes = self._run(work, data, {"audio": wav}, NO_LIMITS, lambda result: bytes(result.content))
        return muxed

    def has_video(self, data: bytes, limits: CallLimits = NO_LIMITS) -> bool:
        """Whether an audio or video file has a video stream."""
        work = _Work("has_video", VIDEO, HAS_VIDEO_TIMEOUT_S, containers.OPENING_BYTES)
        result: bool = self._run(work, data, {"timeout_s": HAS_VIDEO_TIMEOUT_S}, limits, lambda result: result.value)
        return result

    def _run(
        self, work: _Work, data: bytes, arguments: dict[str, Any], limits: CallLimits, take: Callable[[Result], Any]
    ) -> Any:
        limits.check()
        copies = 2 * len(data)  # the child copies audio and video once more than the sandbox accounts for
        try:
            return self._sandbox.run(
                f"media.in_child.{'images' if work.kind is IMAGE else 'audio_video'}:{work.function}",
                arguments,
                data=data,
                timeout_s=limits.left_s(work.timeout_s + MARGIN_S),
                memory_bytes=work.memory_bytes + copies,
                ceiling_bytes=work.ceiling_bytes + copies,
                cancellation=limits.cancellation,
                take=take,
            )
        except SandboxBusy:
            limits.check()
            raise MediaUnreadable(
                f"The {work.kind.noun} was not decoded: all decoders were busy with other files. Try again."
            ) from None
        except SandboxTimeout:
            limits.check()
            raise MediaTooLarge(f"The {work.kind.noun} takes more than {work.timeout_s:g} s to decode.") from None
        except SandboxError as error:
            raise _media_error(error, work.kind) from error
        except MemoryError as error:
            raise MediaTooLarge(f"There is not enough memory to decode the {work.kind.noun}.") from error


class _Work(NamedTuple):
    """A function of `media.in_child`, with its limits of time and of memory beyond the data."""

    function: str
    kind: MediaKind
    timeout_s: float
    memory_bytes: int
    ceiling_bytes: int = 0


def _speech_work(function: str, max_s: float) -> _Work:
    """Work on audio of many minutes: its memory grows with the samples."""
    first = containers.OPENING_BYTES + round(min(max_s, SPEECH_FIRST_S) * audio.BYTES_PER_S)
    ceiling = containers.OPENING_BYTES + round((max_s + SPEECH_FIRST_S) * audio.BYTES_PER_S)
    return _Work(function, AUDIO, audio.SPEECH_TIMEOUT_S, first, ceiling)


def _generated_work(function: str, timeout_s: float, more_bytes: int = 0) -> _Work:
    """Work on a video that a server generated."""
    memory = containers.OPENING_BYTES + more_bytes
    ceiling = memory + video.GENERATED_BYTES_PER_PIXEL * video.MAX_GENERATED_PIXELS
    return _Work(function, VIDEO, timeout_s, memory, ceiling)


def _image(result: Result) -> Image:
    width, height = result.value
    return image_of(result.content, (width, height))


def _media_error(error: SandboxError, kind: MediaKind) -> MediaError:
    if isinstance(error, SandboxFailed):
        if error.kind in _NOT_INSTALLED:
            return MediaUnreadable(missing_media(kind.noun))
        known = _KINDS.get(error.kind)
        return known(str(error)) if known is not None else containers.damaged(kind)
    if isinstance(error, SandboxMemory):
        return MediaTooLarge(f"The {kind.noun} needs more memory to decode than is allowed for its size.")
    if isinstance(error, SandboxCancelled):
        return MediaCancelled("The call ended before the media were read.")
    if isinstance(error, SandboxUnavailable):
        return MediaUnreadable(f"The {kind.noun} cannot be decoded now: no decoder process can be started.")
    return MediaUnreadable(f"The {kind.noun} is damaged: the process that decoded it crashed.")
