"""Videos: frames spread over a span, when something is to be seen in them, what is said, and an answer over all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from engine.errors import GenerationCancelled, GenerationFailed
from engine.interface import ImagePart
from handlers.image_reading import OrderedPool, call_limits
from handlers.media_generation.jobs import Wait, outcome, work_deadline_s
from handlers.usage import Stopwatch
from handlers.vision import video_job
from handlers.vision.frame_analysis import Frame
from handlers.vision.video_job import AnalyzeVideoResult, VideoFacts, WatchingPlan
from handlers.vision.video_speech import NO_AUDIO, Speech, check_speech_model, missing, read_audio
from handlers.vision.vision import Query, Threshold, VisionSampling, checked_query, sampling_of, short_reference
from mcp_protocol.tools.toolbox import ArgumentError, json_text
from media.decoding.frames import MAX_FRAMES
from media.errors import MediaCancelled, MediaError, MediaTooLarge
from sandbox.budget import OverBudget

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from media.audio_video import SpeechAudio
    from media.decoding.frames import VideoFrames
    from sandbox.budget import Holding

DEFAULT_FRAMES = 16

NOT_IN_TIME = "The call's time was up before the video was read."


class AnalyzeVideoArguments(VisionSampling, kw_only=True, frozen=True):
    """Arguments of `analyze_video`."""

    video_path: Annotated[str, Meta(min_length=1, description="Absolute path, or file:, data: or http(s) URL.")]
    query: Query
    max_frames: Annotated[
        int, Meta(ge=1, le=MAX_FRAMES, description="More frames give more exact times and take longer.")
    ] = DEFAULT_FRAMES
    start_s: Annotated[float, Meta(ge=0, description="Beginning of the span to look at, in seconds.")] = 0.0
    end_s: Annotated[float, Meta(gt=0, description="Its end; default: the end of the video.")] | None = None
    check_relevance: Annotated[bool, Meta(description="false: no probabilities and no times.")] = True
    threshold: Threshold = 0.5
    per_frame: Annotated[bool, Meta(description="Also describe each frame.")] = False
    include_speech: Annotated[bool, Meta(description="Also transcribe what is said, for the answer too.")] = False
    wait_s: Wait | None = None


def analyze_video(arguments: AnalyzeVideoArguments, call: Call, services: Services) -> AnalyzeVideoResult:
    """Checks frames of a video in one engine batch, describes them in another if wanted, and answers the query."""
    watch = Stopwatch(call)
    query = checked_query(arguments.query)
    if arguments.end_s is not None and arguments.end_s <= arguments.start_s:
        raise ArgumentError(
            f"arguments.end_s: {arguments.end_s:g} is not behind start_s, {arguments.start_s:g}; both are seconds from "
            "the first frame."
        )
    model = services.models.name_of(arguments.model)
    if arguments.include_speech:
        check_speech_model(services)
    video = _video(arguments, call, services)
    audio = _audio(arguments, video, call, services) if arguments.include_speech else None
    plan = WatchingPlan(
        query=query,
        sampling=sampling_of(arguments, services.settings.sampling),
        model=model,
        model_name=services.models.engine(model).status().model_name,
        threshold=arguments.threshold if arguments.check_relevance else None,
        per_frame=arguments.per_frame,
        span_s=(arguments.start_s, min(arguments.end_s or video.duration_s, video.duration_s)),
        facts=_facts(arguments, video),
        frames=_frames(video),
        audio=None if isinstance(audio, Speech) else audio,
        speech=audio if isinstance(audio, Speech) else None,
        deadline_s=work_deadline_s(arguments.timeout_s, call),
        watch=watch,
        holding=_held(video, audio, services),
    )
    del video, audio  # the job holds them as long as it needs them
    job = video_job.start(plan, short_reference(arguments.video_path), services)

    def report() -> AnalyzeVideoResult:
        return video_job.ended_result(job) if job.ended else plan.result(job.id, "running")

    return outcome(job, call, services, arguments.wait_s, report)


def text_of(result: AnalyzeVideoResult) -> str:
    """The text block of a result: its JSON, or what to do while the job runs."""
    if result.status != "running":
        return json_text(result)
    return (
        f"Still running. Call job_status with job_id {result.job_id} for the result (wait_s waits for it), or "
        "cancel_batch to stop it."
    )


def _video(arguments: AnalyzeVideoArguments, call: Call, services: Services) -> VideoFrames:
    """Reads the frames in a thread: a cancellation or the deadline must not wait for the network."""

    def read(index: int) -> VideoFrames | None:
        return services.videos.frames(
            arguments.video_path, arguments.max_frames, arguments.start_s, arguments.end_s, call_limits(call)
        )

    try:
        with OrderedPool(read, 1, call, None, downloads=True) as found:
            video = next(iter(found))
    except MediaCancelled:
        video = None
    except MediaError as error:
        raise ArgumentError(f"arguments.video_path: {error}") from None
    if call.cancellation.is_set():
        raise GenerationCancelled
    if video is None:
        raise GenerationFailed(NOT_IN_TIME)
    return video


def _audio(
    arguments: AnalyzeVideoArguments, video: VideoFrames, call: Call, services: Services
) -> SpeechAudio | Speech:
    return read_audio(arguments.video_path, call, services) if video.has_audio else missing(NO_AUDIO)


def _held(video: VideoFrames, audio: SpeechAudio | Speech | None, services: Services) -> Holding:
    n_audio = audio.n_bytes if audio is not None and not isinstance(audio, Speech) else 0
    try:
        return services.budget.hold(video.n_bytes + n_audio)
    except OverBudget as error:
        raise MediaTooLarge(str(error)) from None


def _frames(video: VideoFrames) -> list[Frame]:
    read = enumerate(zip(video.frames, video.times_s, video.indices, strict=True))
    return [
        Frame(index, ImagePart(image, video.digest_of(index)), None, time_s=round(time_s, 3), number=number)
        for index, (image, time_s, number) in read
    ]


def _facts(arguments: AnalyzeVideoArguments, video: VideoFrames) -> VideoFacts:
    return VideoFacts(
        video=short_reference(arguments.video_path),
        duration_s=round(video.duration_s, 3),
        fps=video.fps,
        n_frames=video.n_frames,
        width=video.width,
        height=video.height,
        has_audio=video.has_audio,
    )
