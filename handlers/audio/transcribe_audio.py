"""The tool `transcribe_audio`: its arguments, its result, and the result of its job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from engine.errors import InvalidGeneration
from engine.speech import subtitles
from engine.speech.languages import code_of
from engine.speech.segments import Segment
from engine.speech.transcriber import SpeechOptions, Transcription
from handlers.audio import jobs
from handlers.audio.jobs import TranscriptionPlan
from handlers.audio.transcription import Transcript, read_speech, speech_model
from handlers.media_generation.jobs import outcome, work_deadline_s
from handlers.usage import Timings
from mcp_protocol.tools.toolbox import MAX_TIMEOUT_S, ArgumentError, json_text, text_block
from media.errors import MediaError
from omni.errors import JobFailed
from omni.jobs.job import State

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json
    from omni.jobs.job import Job

MAX_LABEL = 200


class TranscribeArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `transcribe_audio`."""

    audio_path: Annotated[
        str, Meta(min_length=1, description="Absolute path or URL of an audio file, or of a video with sound.")
    ]
    language: (
        Annotated[str, Meta(min_length=1, description="Spoken language, e.g. de or German; default: found.")] | None
    ) = None
    task: Annotated[Literal["transcribe", "translate"], Meta(description="translate: the text is in English.")] = (
        "transcribe"
    )
    timestamps: Annotated[Literal["none", "segment"], Meta(description="segment: with the times of its segments.")] = (
        "segment"
    )
    format: Annotated[Literal["text", "json", "srt", "vtt"], Meta(description="Of the reply's text.")] = "text"
    prompt: (
        Annotated[str, Meta(max_length=2_000, description="Names and terms that occur, spelled as wanted.")] | None
    ) = None
    model: Annotated[str, Meta(min_length=1, description="A speech model of list_available_models.")] | None = None
    timeout_s: (
        Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S, description="Seconds after which the text so far is returned.")]
        | None
    ) = None
    wait_s: (
        Annotated[
            float, Meta(ge=0, le=86_400, description="Seconds after which status 'running' and a job_id are returned.")
        ]
        | None
    ) = None


class SpokenSegment(msgspec.Struct, frozen=True):
    """What was said in one go; `no_speech_prob` is the probability that nobody speaks."""

    start_s: float
    end_s: float
    text: str
    avg_logprob: float
    no_speech_prob: float


class TranscriptResult(msgspec.Struct, frozen=True):
    """Result of `transcribe_audio`.

    `status` is done or running; a running job has the text so far, and `job_status` its end. `transcribed_s` of
    `duration_s` are written down; `finish_reason` is timeout if these are not all. `language_probability` is null where
    the language was given. `subtitles` is the document in the format srt or vtt.
    """

    status: str
    text: str
    format: str
    language: str | None
    language_probability: float | None
    duration_s: float
    transcribed_s: float
    segments: list[SpokenSegment]
    subtitles: str | None
    model: str
    finish_reason: str | None
    job_id: str
    timings: Timings


def transcribe_audio(arguments: TranscribeArguments, call: Call, services: Services) -> TranscriptResult:
    """Writes down what is said in a recording."""
    began_s = time.monotonic()
    options = _options(arguments)
    model = speech_model(arguments.model, services)
    try:
        audio = read_speech(arguments.audio_path, call, services)
    except MediaError as error:
        raise ArgumentError(f"arguments.audio_path: {error}") from None
    plan = TranscriptionPlan(
        model=model,
        options=options,
        audio=audio,
        holding=services.budget.hold(audio.n_bytes),
        deadline_s=work_deadline_s(arguments.timeout_s, call),
        report=lambda job: _content(job, answered),
    )
    answered = _Answered(arguments.format, audio.duration_s, call.arrived_s, began_s, time.monotonic())
    del audio  # the job holds it as long as it needs it
    job = jobs.start(plan, _label(arguments.audio_path), services)

    def report() -> TranscriptResult:
        return _result(job, answered) if job.ended else _running(job, answered)

    return outcome(job, call, services, arguments.wait_s, report)


def text_of(result: TranscriptResult) -> str:
    """The text block of a result: the transcript in the format asked for, or what to do while the job runs."""
    if result.status == "running":
        return (
            f"Still running: {result.transcribed_s:.0f} of {result.duration_s:.0f} s are transcribed. Call job_status "
            f"with job_id {result.job_id} for the result (wait_s waits for it), or cancel_batch to stop it."
        )
    if result.format == "json":
        return json_text(result)
    return result.text if result.subtitles is None else result.subtitles


def _options(arguments: TranscribeArguments) -> SpeechOptions:
    try:
        language = None if arguments.language is None else code_of(arguments.language)
    except InvalidGeneration as error:
        raise ArgumentError(f"arguments.language: {error}") from None
    return SpeechOptions(
        language=language,
        translates=arguments.task == "translate",
        timestamps=arguments.timestamps == "segment" or arguments.format in ("srt", "vtt"),
        prompt=arguments.prompt or "",
    )


def _label(reference: str) -> str:
    """The recording's reference for `list_jobs`, without the data of a data URL."""
    return (reference.partition(",")[0] + ",…" if reference[:5].casefold() == "data:" else reference)[:MAX_LABEL]


class _Answered(NamedTuple):
    """Of the call that started a job: the format of its reply, the recording's duration, and when (`time.monotonic()`)
    it arrived, began and started the job. The arguments may hold the recording, and the job is kept for a day."""

    format: str
    duration_s: float
    arrived_s: float
    began_s: float
    started_s: float

    def timings(self, job: Job[TranscriptionPlan, Transcript], load_s: float) -> Timings:
        """From the arrival of the call to the end of the job, or until now."""
        return Timings(
            queue_ms=round((self.began_s - self.arrived_s) * 1e3, 3),
            load_ms=round(load_s * 1e3, 3),
            first_token_ms=None,
            total_ms=round((self.started_s - self.arrived_s + job.elapsed_s) * 1e3, 3),
        )


def _result(job: Job[TranscriptionPlan, Transcript], answered: _Answered) -> TranscriptResult:
    """The result of an ended job; raises `JobFailed` if it failed or was cancelled."""
    (item,) = job.items
    found, format = item.result, answered.format
    if found is None:
        failed = item.state is State.FAILED
        raise JobFailed(item.error or "The transcription failed." if failed else "The transcription was cancelled.")
    write = _DOCUMENTS.get(format)
    return TranscriptResult(
        status="done",
        text=found.text,
        format=format,
        language=found.language,
        language_probability=found.language_probability,
        duration_s=round(found.duration_s, 3),
        transcribed_s=round(found.transcribed_s, 3),
        segments=_segments(found.segments if job.plan.options.timestamps else ()),
        subtitles=None if write is None else write(found.segments),
        model=found.model,
        finish_reason=found.finish_reason,
        job_id=job.id,
        timings=answered.timings(job, found.load_s),
    )


def _running(job: Job[TranscriptionPlan, Transcript], answered: _Answered) -> TranscriptResult:
    """The result about a job that is not over."""
    transcriber = job.plan.transcriber
    found = Transcription() if transcriber is None else transcriber.result
    return TranscriptResult(
        status="running",
        text=found.text,
        format=answered.format,
        language=found.language,
        language_probability=found.language_probability,
        duration_s=round(answered.duration_s, 3),
        transcribed_s=round(found.transcribed_s, 3),
        segments=_segments(tuple(found.segments) if job.plan.options.timestamps else ()),
        subtitles=None,
        model=job.plan.model,
        finish_reason=None,
        job_id=job.id,
        timings=answered.timings(job, 0.0),
    )


def _content(job: Job[TranscriptionPlan, Transcript], answered: _Answered) -> list[Json]:
    """The content of `job_status` about an ended job: the same result, as JSON; raises `JobFailed` if it failed."""
    if job.state is not State.CANCELLED:
        return [text_block(json_text(_result(job, answered)))]
    facts = {
        "status": "cancelled",
        "job_id": job.id,
        "text": job.plan.text,
        "message": "Cancelled before it was done; text is what was written down.",
    }
    return [text_block(json_text(facts))]


def _segments(segments: Iterable[Segment]) -> list[SpokenSegment]:
    return [
        SpokenSegment(
            start_s=segment.start_s,
            end_s=segment.end_s,
            text=segment.text,
            avg_logprob=round(segment.avg_logprob, 4),
            no_speech_prob=round(segment.no_speech_prob, 4),
        )
        for segment in segments
    ]


_DOCUMENTS: dict[str, Callable[[Sequence[Segment]], str]] = {"srt": subtitles.srt, "vtt": subtitles.vtt}
