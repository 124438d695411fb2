"""What is said in a video, for the answer over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.errors import EngineError, GenerationCancelled
from engine.interface import FinishReason
from handlers.audio.transcription import read_speech, speech_model, transcribe
from handlers.progress import Progress
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError

if TYPE_CHECKING:
    from engine.interface import Control
    from handlers.services import Services
    from handlers.vision.prompts import Spoken
    from mcp_protocol.calls.call import Call
    from media.audio_video import SpeechAudio

NO_MODEL = (
    "arguments.include_speech: no speech model is configured. Set VLLM_ASR_MODEL to a model of Whisper's kind, e.g. "
    "openai/whisper-base or the folder of one, and restart the server; or call without include_speech."
)
NO_AUDIO = "The video has no audio track."


class SpokenPart(msgspec.Struct, frozen=True):
    """What is said in one go."""

    start_s: float
    end_s: float
    text: str


class Speech(msgspec.Struct, frozen=True):
    """What is said within the span; `error` says why it is missing or incomplete."""

    text: str
    language: str | None
    segments: list[SpokenPart]
    model: str | None
    error: str | None

    @property
    def lines(self) -> list[Spoken]:
        """The segments for a prompt."""
        return [(segment.start_s, segment.end_s, segment.text) for segment in self.segments]


class PhasedProgress(Progress, Protocol):
    """What is told the phases of a load too."""

    def enter(self, phase: str) -> None:
        """Begins a phase."""


def check_speech_model(services: Services) -> None:
    """Raises `ArgumentError` if no speech model is configured."""
    if services.settings.engine.asr_model is None:
        raise ArgumentError(NO_MODEL)


def read_audio(reference: str, call: Call, services: Services) -> SpeechAudio | Speech:
    """The samples of a video's audio, or where they cannot be read the reason."""
    try:
        return read_speech(reference, call, services)
    except MediaError as error:
        return missing(str(error))


def missing(error: str) -> Speech:
    """No speech, for this reason."""
    return Speech("", None, [], None, error)


def transcribed(
    audio: SpeechAudio, span_s: tuple[float, float], control: Control, services: Services, sink: PhasedProgress
) -> Speech:
    """Transcribes the audio of a video; without the speech model the frames are looked at all the same.

    Arguments:
        audio: the samples.
        span_s: segments outside this span are left out.
        control: its cancellation and deadline end the work.
        services: have the models.
        sink: is told the progress.

    Raises: `GenerationCancelled`.
    """

    def report(done_s: float) -> None:
        sink.progress(done_s, None, f"{done_s:.0f} of {audio.duration_s:.0f} s transcribed")

    try:
        model = speech_model(None, services)
        found = transcribe(audio, model, control, services, on_phase=sink.enter, on_progress=report)
    except GenerationCancelled:
        raise
    except (EngineError, ArgumentError) as problem:
        return missing(str(problem))
    segments = [
        SpokenPart(round(each.start_s, 2), round(each.end_s, 2), each.text.strip())
        for each in found.segments
        if each.end_s > span_s[0] and each.start_s < span_s[1]
    ]
    is_cut = found.finish_reason is FinishReason.TIMEOUT
    text = " ".join(segment.text for segment in segments)
    late = f"The call's time was up; what is said after {found.transcribed_s:.1f} s is missing." if is_cut else None
    return Speech(text, found.language, segments, found.model, late)
