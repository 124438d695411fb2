"""Transcriptions as jobs, which go on when their call has to be answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.interface import Control
from engine.speech.transcriber import SpeechOptions, Transcriber
from handlers.audio.transcription import Transcript, transcribe
from handlers.media_generation.local_jobs import start_here
from omni.errors import JobFailed

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.jsonrpc import Json
    from media.audio_video import SpeechAudio
    from omni.jobs.job import Job
    from sandbox.budget import Holding
    from sandbox.cancellation import Cancellation

KIND = "transcription"


@dataclass(slots=True)
class TranscriptionPlan:
    """What a transcription is made of.

    Arguments:
        model: the name of the speech model.
        options: how it writes.
        audio: the recording; `None` once it is written down.
        holding: its bytes in the budget.
        deadline_s: the `time.monotonic()` value at which it ends with what there is; `None` for no limit.
        report: makes the content of a tool result about the ended job.

    Attribute: `transcriber`, at work since the model is loaded.
    """

    model: str
    options: SpeechOptions
    audio: SpeechAudio | None
    holding: Holding
    deadline_s: float | None
    report: Callable[[Job[TranscriptionPlan, Transcript]], list[Json]]
    transcriber: Transcriber | None = field(default=None, init=False)

    @property
    def text(self) -> str:
        """What is written down so far."""
        return "" if self.transcriber is None else self.transcriber.result.text

    def close(self) -> None:
        """See `handlers.media_generation.local_jobs.Plan`."""
        self.audio = None
        self.holding.release()


def start(plan: TranscriptionPlan, label: str, services: Services) -> Job[TranscriptionPlan, Transcript]:
    """Starts a transcription; at most as many run at a time as calls do.

    Raises: `TooManyJobs`, `JobCancelled`.
    """

    def work(job: Job[TranscriptionPlan, Transcript], cancellation: Cancellation) -> Transcript:
        return _transcribed(job, cancellation, services)

    assert plan.audio is not None
    whole = (0.0, plan.audio.duration_s)
    job = start_here(KIND, label, plan, work, services)
    job.progress = job.progress or whole
    return job


def _transcribed(job: Job[TranscriptionPlan, Transcript], cancellation: Cancellation, services: Services) -> Transcript:
    plan = job.plan
    audio = plan.audio
    assert audio is not None

    def count(done_s: float) -> None:
        job.phase, job.progress = "transcribing", (done_s, audio.duration_s)

    def enter(phase: str) -> None:
        job.phase = phase

    def begin(transcriber: Transcriber) -> None:
        plan.transcriber = transcriber
        count(0.0)

    control = Control(cancellation=cancellation, deadline_s=plan.deadline_s)
    try:
        return transcribe(
            audio, plan.model, control, services, plan.options, on_phase=enter, on_start=begin, on_progress=count
        )
    except EngineError as error:
        raise JobFailed(str(error)) from error
    finally:
        job.phase = None
