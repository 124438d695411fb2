"""The images, audio and videos of a call's messages: read by the rules of media, and counted in the byte budget."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Literal

import msgspec

from engine.interface import AudioPart, VideoPart
from engine.parts import MAX_AUDIO_S, MAX_FRAME_SIDE, MIN_AUDIO_S, Media
from engine.prompts.rendering import not_accepted
from handlers.image_reading import CallImages, ImageSource, PartReader, call_images, call_limits, is_download
from media.errors import MediaError, MediaTooLarge, MediaUnreadable
from media.inline import refuse_other_media
from media.kinds import AUDIO, VIDEO
from sandbox.budget import OverBudget

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL.Image import Image

    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from media.audio_video import SpeechAudio
    from media.decoding.frames import VideoFrames
    from sandbox.budget import Holding

COPIES = 3
"""The decoded audio or frames, and what they take while the prompt is rendered."""
KINDS = {"audio": AUDIO, "video": VIDEO}


class MediaSource(msgspec.Struct, frozen=True):
    """Audio or a video: a path or URL, or its own data as base64 with the MIME type if the message has one."""

    kind: Literal["audio", "video"]
    path: str | None = None
    data: str | None = None
    mime_type: str | None = None


class CallMedia(PartReader["ImageSource | MediaSource", Media]):
    """Reads the media of the messages of one call. Any thread may call it.

    Every source is read once, and equal media share one object. They count in the budget until the call has ended.

    Arguments:
        images: reads the images.
        holding: the call's part of the byte budget.
        call: its deadline and its cancellation end a read.
        services: the readers of audio and videos, and the models.
        model: the name of the model that the media are for, `None` for the default one.
    """

    def __init__(
        self, images: CallImages, holding: Holding, call: Call, services: Services, model: str | None = None
    ) -> None:
        super().__init__(call)
        self._images = images
        self._holding = holding
        self._services = services
        self._model = model
        self._parts: dict[MediaSource, Media] = {}
        self._lock = threading.Lock()

    def part(self, source: ImageSource | MediaSource) -> Media | str:
        """Returns the medium as a part of a message, or the error text if it cannot be read, or not by this model."""
        if not isinstance(source, MediaSource):
            return self._images.part(source)
        with self._lock:
            part = self._parts.get(source)
        if part is not None:
            return part
        if (text := refusal([source.kind], self._services, self._model)) is not None:
            return text
        try:
            part = self._audio(source) if source.kind == "audio" else self._video(source)
            return self._kept(source, part)
        except MediaError as error:
            return str(error)

    def is_download(self, source: ImageSource | MediaSource) -> bool:
        """Whether a medium comes over the network."""
        return is_download((source.path or "") if isinstance(source, MediaSource) else source)

    def _audio(self, source: MediaSource) -> AudioPart:
        reader, limits = self._services.audio, call_limits(self._call)
        audio: SpeechAudio
        if source.path is None:
            audio = reader.samples_base64(source.data or "", source.mime_type, limits, max_s=MAX_AUDIO_S)
        else:
            audio = reader.samples(source.path, limits, max_s=MAX_AUDIO_S)
        if audio.duration_s < MIN_AUDIO_S:
            raise MediaUnreadable(
                f"The audio is too short: it lasts {audio.duration_s:.3f} s; the minimum is {MIN_AUDIO_S} s."
            )
        return AudioPart(audio.samples, f"audio-{audio.digest}")

    def _video(self, source: MediaSource) -> VideoPart:
        n_frames = self._services.models.settings_of(self._model).video_frames
        reference = source.path if source.path is not None else _data_url(source)
        found = self._services.videos.frames(reference, n_frames, limits=call_limits(self._call))
        return video_part(found, n_frames)

    def _kept(self, source: MediaSource, part: Media) -> Media:
        with self._lock:
            known = next((each for each in self._parts.values() if each.digest == part.digest), None)
            if known is None:
                try:
                    self._holding.add(COPIES * part.n_bytes)
                except OverBudget as error:
                    raise MediaTooLarge(str(error)) from None
            kept = self._parts[source] = known or part
            return kept


def call_media(call: Call, services: Services, model: str | None = None) -> CallMedia:
    """The reader for the media of a call."""
    holding = services.budget.hold()
    call.on_release(holding.release)
    return CallMedia(call_images(call, services), holding, call, services, model)


def refusal(kinds: Iterable[str], services: Services, model: str | None = None) -> str | None:
    """The error text if a model is known not to accept one of these kinds of media; names the models that do."""
    statuses = services.models.statuses()
    name = services.models.name_of(model)
    accepts = statuses[name].accepts
    kind = next((kind for kind in kinds if kind not in accepts), None)
    if kind is None:
        return None
    text = not_accepted(kind, statuses[name].model_name, accepts)
    if kind == "audio" and services.settings.engine.asr_model is not None:
        text += " transcribe_audio writes down what is said."
    others = [other for other, status in statuses.items() if getattr(status, SUPPORTS[kind]) and not status.transcribes]
    return f"{text} Here, {', '.join(others)} can be named as model." if others else text


SUPPORTS = {"image": "supports_images", "audio": "supports_audio", "video": "supports_video"}


def video_part(found: VideoFrames, max_frames: int) -> VideoPart:
    """The frames of a video as a part: reduced to `MAX_FRAME_SIDE`, and all of one size."""
    width, height = found.frames[0].size
    scale = min(1.0, MAX_FRAME_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    named = hashlib.sha256(f"{found.digest} {max_frames} {size}".encode("ascii")).hexdigest()
    frames = tuple(_of_size(frame, size) for frame in found.frames)
    return VideoPart(frames, found.times_s, found.duration_s, found.fps, f"video-{named}")


def _of_size(frame: Image, size: tuple[int, int]) -> Image:
    return frame if frame.size == size else frame.resize(size)


def _data_url(source: MediaSource) -> str:
    refuse_other_media(source.mime_type, VIDEO)
    data = source.data or ""
    return data if data[:5].casefold() == "data:" else f"data:video/mp4;base64,{data}"
