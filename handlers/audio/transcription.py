"""Reads speech and has a speech model write it down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine import model_config
from engine.interface import FinishReason
from engine.speech.segments import Segment
from engine.speech.transcriber import SpeechOptions, Transcriber, Transcription
from handlers.image_reading import OrderedPool, call_limits, is_download
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError

if TYPE_CHECKING:
    from engine.interface import Control, OnPhase
    from engine.models import ModelInUse
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from media.audio_video import SpeechAudio

MIN_SPEECH_S = 0.1
"""Shorter sound has no word in it."""
NOT_IN_TIME = "The call's time was up before it was read."
NO_MODEL = (
    "No speech model is configured. Set VLLM_ASR_MODEL to a model of Whisper's kind, e.g. openai/whisper-base or the "
    "folder of one, and restart the server; or give the name of a model of VLLM_MODELS as model."
)

AS_SPOKEN = SpeechOptions()
"""In the language that is found, with times."""

OnProgress = Callable[[float], None]
"""Called with the seconds that are written down so far."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in a recording.

    `language` is a code such as `en`, `None` where nobody speaks; `transcribed_s` are the seconds that were written
    down before the deadline, of `duration_s`.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str | None
    language_probability: float | None
    duration_s: float
    transcribed_s: float
    finish_reason: FinishReason
    model: str
    load_s: float


def transcribe(
    audio: SpeechAudio,
    model: str,
    control: Control,
    services: Services,
    options: SpeechOptions = AS_SPOKEN,
    *,
    on_phase: OnPhase | None = None,
    on_start: Callable[[Transcriber], None] = lambda transcriber: None,
    on_progress: OnProgress = lambda done_s: None,
) -> Transcript:
    """What is said in a recording; by default in its own language, with the times of its segments.

    Arguments:
        audio: the recording.
        model: the name of a speech model.
        control: its cancellation and deadline end the work.
        services: have the models.
        options: how it is written down.
        on_phase: told the phases of a load, in the thread of the caller.
        on_start: given what writes, which has the text so far, once the model is loaded.
        on_progress: told the progress, in the thread of the caller.
    Raises: the errors of the engine.
    """
    with services.models.in_use(model, on_phase, control.cancellation, control.deadline_s) as used:
        transcriber = Transcriber(used.engine, options, control, on_progress)
        on_start(transcriber)
        return _transcript(transcriber.run(audio.samples), audio.duration_s, used)


def speech_model(model: str | None, services: Services) -> str:
    """The name of the speech model that a call means.

    Raises: `ArgumentError` where none is configured; `UnknownModel`; `InvalidGeneration` for a model that does not
        transcribe, where its files are here.
    """
    wanted = services.settings.engine.asr_model if model is None else model
    if wanted is None:
        raise ArgumentError(NO_MODEL)
    name = services.models.name_of(wanted)
    settings = services.models.settings_of(name)
    if settings.base_url is not None:
        raise model_config.transcribes_elsewhere()
    if model_config.transcribes(settings) is False:
        raise model_config.transcribes_nothing(name)
    return name


def read_speech(reference: str, call: Call, services: Services) -> SpeechAudio:
    """The samples of a recording; cancelling the call and its deadline end a download.

    Raises: `MediaError`, also where the time is up, and where it is too short for speech.
    """

    def read(index: int) -> SpeechAudio | MediaError:
        try:
            return services.audio.samples(reference, call_limits(call))
        except MediaError as error:
            return error

    if is_download(reference):
        late: SpeechAudio | MediaError = MediaError(NOT_IN_TIME)
        with OrderedPool(read, 1, call, late, downloads=True) as pool:
            found = next(iter(pool))
    else:
        found = read(0)
    if isinstance(found, MediaError):
        raise found
    if found.duration_s < MIN_SPEECH_S:
        raise MediaError(f"The audio is too short: it lasts {found.duration_s:.2f} s; the minimum is {MIN_SPEECH_S} s.")
    return found


def _transcript(found: Transcription, duration_s: float, used: ModelInUse) -> Transcript:
    """What was written down, with the model that did it."""
    return Transcript(
        text=found.text,
        segments=tuple(found.segments),
        language=found.language,
        language_probability=found.language_probability,
        duration_s=duration_s,
        transcribed_s=found.transcribed_s,
        finish_reason=found.finish_reason,
        model=used.name,
        load_s=used.load_s,
    )
