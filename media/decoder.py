"""The way from bytes to pictures, sound and film for everybody: in a child of the sandbox, unless they are harmless.

Files may be made to take gigabytes or hours, and libraries of C to crash. Here that costs one call one clear error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from media import audio, containers, decoding, muxing, video
from media.call_limits import NO_LIMITS, CallLimits
from media.errors import (
    MediaCancelled,
    MediaError,
    MediaForbidden,
    MediaNotFound,
    MediaTooLarge,
    MediaUnreadable,
)
from media.image import decoders
from media.kinds import AUDIO, PICTURE, VIDEO, MediaKind
from media.pixels import image_of
from media.plain_images import plain_image
from sandbox.errors import (
    SandboxBusy,
    SandboxCancelled,
    SandboxError,
    SandboxFailed,
    SandboxMemory,
    SandboxTimeout,
    SandboxUnavailable,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from sandbox.pool import Sandbox
    from sandbox.result import Result

IMAGE_TIMEOUT_S = 30.0
"""Seconds for one picture. 50 megapixels of any format take 3 s on a slow machine that does other things as well."""
LOOK_TIMEOUT_S = 10.0
MARGIN_S = 2.0
"""What decodes sound and film keeps to its time by itself, and says more about it; this is for when it cannot."""
SOUND_BYTES_PER_S = 4 * 2 * audio.SAMPLE_RATE
"""Memory for a second of sound: two bytes a sample, held up to four times while the file is made of them."""

_KINDS = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (MediaNotFound, MediaForbidden, MediaTooLarge, MediaUnreadable)
}


class Decoder:
    """Decodes bytes from outside. Any thread may call it.

    All methods raise `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._here = threading.BoundedSemaphore(decoders())

    def image(
        self, data: bytes, max_pixels: int, longest_side: int | None = None, limits: CallLimits = NO_LIMITS
    ) -> Image:
        """A picture, as `media.decoding.decode` returns it."""
        plain = plain_image(data)
        if plain is not None:
            # Nobody waits here for what a child does: that may take as long as its file wants.
            with self._here:
                return decoding.decode(plain.data, max_pixels, longest_side, plain.orientation)
        arguments = {"max_pixels": max_pixels, "longest_side": longest_side}
        ceiling = decoding.memory_bytes(max_pixels)
        work = _Work("media.in_child.images:picture", PICTURE, IMAGE_TIMEOUT_S, decoding.OPENING_BYTES, ceiling)
        image: Image = self._run(work, data, arguments, limits, _image)
        return image

    def audio(self, data: bytes, max_s: float, limits: CallLimits = NO_LIMITS) -> audio.DecodedAudio:
        """Sound, as `media.audio.decode_audio` returns it."""
        memory = containers.OPENING_BYTES + round(max_s * SOUND_BYTES_PER_S)
        work = _Work("media.in_child.recordings:sound", AUDIO, audio.DECODE_TIMEOUT_S, memory)
        arguments = {"max_s": max_s, "timeout_s": audio.DECODE_TIMEOUT_S}

        def taken(result: Result) -> audio.DecodedAudio:
            duration_s, sample_rate = result.value
            return audio.DecodedAudio(bytes(result.content), duration_s, sample_rate)

        decoded: audio.DecodedAudio = self._run(work, data, arguments, limits, taken)
        return decoded

    def clip(self, data: bytes, max_pixels: int, limits: CallLimits = NO_LIMITS) -> video.Clip:
        """A clip, as `media.video.read_clip` returns it."""
        ceiling = containers.OPENING_BYTES + video.CLIP_BYTES_PER_PIXEL * max_pixels
        work = _Work("media.in_child.recordings:clip", VIDEO, video.CLIP_TIMEOUT_S, containers.OPENING_BYTES, ceiling)
        arguments = {"max_pixels": max_pixels, "timeout_s": video.CLIP_TIMEOUT_S}

        def taken(result: Result) -> video.Clip:
            width, height, *facts = result.value
            return video.Clip(image_of(result.content, (width, height)), width, height, *facts)

        clip: video.Clip = self._run(work, data, arguments, limits, taken)
        return clip

    def check_video(self, data: bytes, timeout_s: float = video.CHECK_TIMEOUT_S) -> video.VideoFacts:
        """What is in a film, as `media.video.check_video` finds out."""
        work = _made_work("media.in_child.recordings:checked", timeout_s)
        facts: dict[str, Any] = self._run(work, data, {"timeout_s": timeout_s}, NO_LIMITS, lambda result: result.value)
        return video.VideoFacts(**facts)

    def poster(self, data: bytes, limits: CallLimits = NO_LIMITS) -> Image:
        """A frame, as `media.video.poster` returns it."""
        work = _made_work("media.in_child.recordings:poster", video.CLIP_TIMEOUT_S)
        image: Image = self._run(work, data, {}, limits, _image)
        return image

    def with_sound(self, film: bytes, wav: bytes) -> bytes:
        """A film with sound put to it, as `media.muxing.with_sound` returns it."""
        work = _made_work("media.in_child.recordings:with_sound", muxing.MUX_TIMEOUT_S, 2 * len(film) + 8 * len(wav))
        made: bytes = self._run(work, film, {"audio": wav}, NO_LIMITS, lambda result: bytes(result.content))
        return made

    def moves(self, data: bytes, limits: CallLimits = NO_LIMITS) -> bool:
        """Whether a file of sound or film is film."""
        work = _Work("media.in_child.recordings:moves", VIDEO, LOOK_TIMEOUT_S, containers.OPENING_BYTES)
        found: bool = self._run(work, data, {"timeout_s": LOOK_TIMEOUT_S}, limits, lambda result: result.value)
        return found

    def _run(
        self, work: _Work, data: bytes, arguments: dict[str, Any], limits: CallLimits, take: Callable[[Result], Any]
    ) -> Any:
        limits.check()
        # What reads sound and film copies them once more than the sandbox reckons with.
        memory, ceiling = work.memory_bytes + 2 * len(data), work.ceiling_bytes + 2 * len(data)
        try:
            return self._sandbox.run(
                work.function,
                arguments,
                data=data,
                timeout_s=limits.left_s(work.timeout_s + MARGIN_S),
                memory_bytes=memory,
                ceiling_bytes=ceiling,
                cancelled=limits.cancelled,
                take=take,
            )
        except SandboxBusy:
            limits.check()
            raise MediaUnreadable(
                f"The {work.kind.noun} was not decoded: other files took too long before it. Try again."
            ) from None
        except SandboxTimeout:
            limits.check()
            raise MediaTooLarge(f"The {work.kind.noun} takes more than {work.timeout_s:g} s to decode.") from None
        except SandboxError as error:
            raise _media_error(error, work.kind) from error
        except MemoryError as error:
            raise MediaTooLarge(f"The {work.kind.noun} takes more memory than there is.") from error


class _Work:
    """A function in the child, and what it may take: memory beyond the data, and seconds."""

    def __init__(
        self, function: str, kind: MediaKind, timeout_s: float, memory_bytes: int, ceiling_bytes: int = 0
    ) -> None:
        self.function = function
        self.kind = kind
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.ceiling_bytes = max(memory_bytes, ceiling_bytes)


def _made_work(function: str, timeout_s: float, more_bytes: int = 0) -> _Work:
    """Work on a film that a server has made."""
    memory = containers.OPENING_BYTES + more_bytes
    ceiling = memory + video.MADE_BYTES_PER_PIXEL * video.MAX_MADE_PIXELS
    return _Work(function, VIDEO, timeout_s, memory, ceiling)


def _image(result: Result) -> Image:
    width, height = result.value
    return image_of(result.content, (width, height))


def _media_error(error: SandboxError, kind: MediaKind) -> MediaError:
    if isinstance(error, SandboxFailed):
        known = _KINDS.get(error.kind)
        return known(str(error)) if known is not None else containers.damaged(kind)
    if isinstance(error, SandboxMemory):
        return MediaTooLarge(f"The {kind.noun} takes more memory to decode than a file like it may take.")
    if isinstance(error, SandboxCancelled):
        return MediaCancelled("The call has ended before this was read.")
    if isinstance(error, SandboxUnavailable):
        return MediaUnreadable(f"The {kind.noun} cannot be decoded now, since no process for it can be started.")
    return MediaUnreadable(f"The {kind.noun} is damaged: the process that tried to decode it has crashed.")
