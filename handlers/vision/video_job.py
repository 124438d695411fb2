"""The analysis of a video as a job, which goes on when its call has to be answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError, GenerationFailed
from engine.interface import Control
from handlers.media_generation.local_jobs import start_here
from handlers.usage import Stopwatch, Timings, Usage, usage_of
from handlers.vision.frame_analysis import FoundSpan, Frame, FrameAnalysis, found_spans, sampling_step_s
from handlers.vision.video_speech import Speech, transcribed
from mcp_protocol.tools.toolbox import json_text, text_block
from omni.errors import JobFailed
from omni.jobs.job import State

if TYPE_CHECKING:
    from engine.interface import Sampling
    from handlers.services import Services
    from mcp_protocol.jsonrpc import Json
    from media.audio_video import SpeechAudio
    from omni.jobs.job import Job
    from sandbox.budget import Holding
    from sandbox.cancellation import Cancellation

KIND = "watching"
CANCELLED = "The analysis was cancelled."


class FrameResult(msgspec.Struct, frozen=True):
    """One frame; null if not requested or not available (see `error`)."""

    time_s: float
    relevant: bool | None
    probability: float | None
    description: str | None
    finish_reason: str | None
    error: str | None


class VideoFacts(msgspec.Struct, frozen=True):
    """The video as measured, not as its header declares; `fps` is null for a single frame."""

    video: str
    duration_s: float
    fps: float | None
    n_frames: int
    width: int
    height: int
    has_audio: bool


class AnalyzeVideoResult(msgspec.Struct, frozen=True):
    """Result of `analyze_video`. Times are seconds from the first frame of the video.

    `status` is done or running; a running job has what is known so far, and `job_status` its end. `error` says why the
    answer is missing or incomplete. `found` are the spans that are relevant to the query, null without a check; their
    edges are exact to `sampling_step_s`, the longest time between two frames, and what is to be seen for a shorter time
    may be missed. `speech` is null if it was not requested, or not yet transcribed.
    """

    status: str
    answer: str | None
    error: str | None
    found: list[FoundSpan] | None
    sampling_step_s: float
    frames: list[FrameResult]
    speech: Speech | None
    video: VideoFacts
    model: str
    job_id: str
    usage: Usage
    timings: Timings


@dataclass(slots=True)
class WatchingPlan:
    """What an analysis is made of.

    Arguments:
        query: what to answer.
        sampling: how the texts are sampled.
        model: the name of the model.
        model_name: its name in results.
        threshold: the lowest probability of a relevant frame; `None` for no check.
        per_frame: whether each frame is described for the caller.
        span_s: the beginning and the end of the span.
        facts: about the video.
        frames: those to look at; dropped at the end.
        audio: the samples to transcribe; `None` for none, and once they are transcribed.
        speech: what is said, where that is known before.
        deadline_s: the `time.monotonic()` value at which it ends with what there is; `None` for no limit.
        watch: measures the time since the call.
        holding: the bytes of the frames and the samples in the budget.

    Attributes: `analysis`, at work since the model is loaded; `problem`, why there is none at the end.
    """

    query: str
    sampling: Sampling
    model: str
    model_name: str
    threshold: float | None
    per_frame: bool
    span_s: tuple[float, float]
    facts: VideoFacts
    frames: list[Frame]
    audio: SpeechAudio | None
    speech: Speech | None
    deadline_s: float | None
    watch: Stopwatch
    holding: Holding
    analysis: FrameAnalysis | None = field(default=None, init=False)
    problem: str | None = field(default=None, init=False)

    def close(self) -> None:
        """See `handlers.media_generation.local_jobs.Plan`."""
        self.frames, self.audio, self.analysis = [], None, None
        self.holding.release()

    def report(self, job: Job[WatchingPlan, AnalyzeVideoResult]) -> list[Json]:
        """The content of `job_status` about the ended job; raises `JobFailed` if it failed."""
        if job.state is State.CANCELLED:
            return [text_block(json_text({"status": "cancelled", "job_id": job.id, "message": CANCELLED}))]
        return [text_block(json_text(ended_result(job)))]

    def result(self, job_id: str, status: str) -> AnalyzeVideoResult:
        """What is known so far."""
        frames, analysis = self.frames, self.analysis  # another thread may be at the end of the job
        return AnalyzeVideoResult(
            status=status,
            answer=analysis.answer if analysis is not None else None,
            error=analysis.error if analysis is not None else self.problem,
            found=None if self.threshold is None else found_spans(frames, *self.span_s),
            sampling_step_s=sampling_step_s(frames, *self.span_s),
            frames=[_frame_result(frame) for frame in frames],
            speech=self.speech,
            video=self.facts,
            model=self.model_name,
            job_id=job_id,
            usage=usage_of(analysis.batches.completions if analysis is not None else []),
            timings=self.watch.timings(analysis.batches.first_token_ms if analysis is not None else None),
        )


def start(plan: WatchingPlan, label: str, services: Services) -> Job[WatchingPlan, AnalyzeVideoResult]:
    """Starts an analysis; at most as many run at a time as calls do.

    Raises: `TooManyJobs`, `JobCancelled`.
    """

    def work(job: Job[WatchingPlan, AnalyzeVideoResult], cancellation: Cancellation) -> AnalyzeVideoResult:
        return _analysed(job, cancellation, services)

    return start_here(KIND, label, plan, work, services)


def ended_result(job: Job[WatchingPlan, AnalyzeVideoResult]) -> AnalyzeVideoResult:
    """The result of an ended job; raises `JobFailed` if it failed or was cancelled."""
    (item,) = job.items
    if item.result is None:
        raise JobFailed(item.error or CANCELLED)
    return item.result


def _analysed(
    job: Job[WatchingPlan, AnalyzeVideoResult], cancellation: Cancellation, services: Services
) -> AnalyzeVideoResult:
    plan = job.plan
    sink = _JobProgress(job)
    control = Control(cancellation=cancellation, deadline_s=plan.deadline_s)
    try:
        n_before = 0.0
        if plan.audio is not None:
            n_before = plan.audio.duration_s
            plan.speech = transcribed(plan.audio, plan.span_s, control, services, sink)
            plan.audio = None
        control.stop_if_cancelled()
        try:
            _look(plan, control, services, sink, n_before)
        except GenerationFailed as error:
            if plan.analysis is not None or not control.is_late:
                raise
            plan.problem = str(error)  # what is said is known all the same
            for frame in plan.frames:
                frame.fail(frame.not_checked)
        return plan.result(job.id, "done")
    except EngineError as error:
        raise JobFailed(str(error)) from error
    finally:
        job.phase = None


def _look(plan: WatchingPlan, control: Control, services: Services, sink: _JobProgress, n_before: float) -> None:
    """Analyses the frames; `n_before` is the progress so far."""
    with services.models.in_use(plan.model, sink.enter, control.cancellation, plan.deadline_s) as used:
        plan.watch.load_s, plan.model_name = used.load_s, used.engine.status().model_name
        max_together = services.models.settings_of(plan.model).max_images_per_prompt
        plan.analysis = FrameAnalysis(
            plan.frames, plan.query, plan.sampling, control, used.engine, sink, max_together, plan.facts.duration_s
        )
        speech = plan.speech.lines if plan.speech is not None else ()
        plan.analysis.run(plan.threshold, per_frame=plan.per_frame, speech=speech, n_before=n_before)


class _JobProgress:
    """Keeps the progress of an analysis in its job."""

    def __init__(self, job: Job[WatchingPlan, AnalyzeVideoResult]) -> None:
        self._job = job

    def enter(self, phase: str) -> None:
        """Begins a phase of a load."""
        self._job.phase = phase

    def progress(self, progress: float, total: float | None, message: str | None = None) -> None:
        """See `handlers.progress.Progress`."""
        self._job.phase = message
        self._job.progress = (progress, total if total is not None else progress)


def _frame_result(frame: Frame) -> FrameResult:
    return FrameResult(
        time_s=frame.time_s,
        relevant=frame.relevant,
        probability=frame.probability,
        description=frame.analysis,
        finish_reason=frame.finish_reason,
        error=frame.error,
    )
