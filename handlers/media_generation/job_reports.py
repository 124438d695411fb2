"""The tool results about jobs: the facts as JSON, a preview image, and links to the files.

They have no structured content, since hosts drop or duplicate images next to structured content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from handlers.resources.files import media_type
from handlers.resources.written_files import path_or_url
from mcp_protocol.tools.toolbox import image_block, link_block, text_block
from media.errors import MediaError
from media.files.file_urls import url_of_path
from omni.errors import JobFailed
from omni.images.parameters import common_parameters
from omni.jobs.job import State

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json
    from omni.images.generate import ImagePlan, MadeImage
    from omni.images.previews import Preview
    from omni.jobs.job import AnyJob, Item, Job
    from omni.speech.generate import MadeSpeech, SpeechPlan
    from omni.speech.talking import MadeTalking, TalkingPlan
    from omni.video.generate import VideoPlan
    from omni.video.server_jobs import MadeVideo
    from omni.video.text_generate import TextVideoPlan

BASE64_GROWTH = 4 / 3
RESERVED_BYTES = 20_000
"""For everything in a result but its preview."""


def running(job: AnyJob) -> list[Json]:
    """The result about a running job."""
    facts = {
        "status": "running",
        **_ids(job),
        "completed": job.count(State.SUCCEEDED),
        "failed": job.count(State.FAILED),
        "total": len(job.items),
        "elapsed_seconds": round(job.elapsed_s, 3),
        **({"phase": job.phase} if job.phase else {}),
        "message": (
            f"Still running. Call job_status with job_id {job.id} for the result (wait_s waits for it), or "
            "cancel_batch to stop it."
        ),
    }
    return [_json_block(facts)]


def cancelled(job: AnyJob, had_ended: bool) -> tuple[str, int, int, int, list[str], str]:
    """The outcome of cancelling: status, numbers completed, cancelled and failed, files, and a message."""
    n_done, n_cancelled, n_failed = map(job.count, (State.SUCCEEDED, State.CANCELLED, State.FAILED))
    if had_ended:
        status, message = str(job.state), f"The job had already ended ({job.state}); there was nothing to cancel."
    elif not job.ended:
        status, message = "cancelling", "The requests on the server have not stopped yet; call job_status."
    elif job.state is State.CANCELLED:
        status, message = "cancelled", "The job was cancelled; files saved before are kept."
    else:
        status, message = str(job.state), "The job ended before it could be cancelled."
    return status, n_done, n_cancelled, n_failed, _files(job), message


def image_report(job: Job[ImagePlan, MadeImage], call: Call, services: Services, preview: str) -> list[Json]:
    """The result of `generate_image`; raises `JobFailed`."""
    (item,) = job.items
    made = item.result
    if made is None:
        return [_cancelled_block(job, item)]
    facts = {
        "status": "success" if made.unsaved is None else "not_saved",
        "file_path": made.file_path and path_or_url(made.file_path),
        "generation_time_seconds": made.generation_time_s,
        "parameters_used": made.parameters,
        **_check_facts(made),
        "job_id": job.id,
    }
    return _with_images(facts, [*job.plan.notes, *made.notes], [made], call, services, preview)


def _check_facts(made: MadeImage) -> dict[str, Any]:
    """What the check of an image found, and what it was chosen from; empty where it was not to be checked."""
    from omni.images.generate import CheckedImage

    if not isinstance(made, CheckedImage):
        return {}
    return {"check": made.check, **({"candidates": made.candidates} if made.candidates is not None else {})}


def batch_report(job: Job[ImagePlan, MadeImage], call: Call, services: Services, preview: str) -> list[Json]:
    """The result of `batch_generate`; raises `JobFailed` if all images failed."""
    plan = job.plan
    common = common_parameters(plan.images)
    facts = {
        "status": _BATCH_STATUS[job.state],
        "batch_id": job.id,
        "total_time_seconds": round(job.elapsed_s, 3),
        "images_generated": job.count(State.SUCCEEDED),
        "images_failed": job.count(State.FAILED),
        "images_cancelled": job.count(State.CANCELLED),
        "parameters_used": common,
        "results": [_batch_entry(item, plan, common) for item in job.items],
    }
    if job.state is State.FAILED:
        raise JobFailed(_json(facts))
    done = [(item.result, item.index) for item in job.items if item.result is not None]
    made, numbers = [result for result, _ in done], [number for _, number in done]
    notes = plan.notes + [f"Image {item.index}: {note}" for item in job.items for note in _notes(item)]
    return _with_images(facts, notes, made, call, services, preview, numbers)


def video_report(
    job: Job[VideoPlan | TextVideoPlan, MadeVideo], call: Call, services: Services, preview: str
) -> list[Json]:
    """The result of a video; raises `JobFailed`."""
    (item,) = job.items
    made = item.result
    if made is None:
        return [_cancelled_block(job, item)]
    notes = [*job.plan.notes, *made.notes]
    return _with_images(_video_facts(job.plan, made, job.id), notes, [made], call, services, preview)


def talking_report(job: Job[TalkingPlan, MadeTalking], call: Call, services: Services, preview: str) -> list[Json]:
    """The result of a talking video whose voice was made from words; raises `JobFailed`."""
    (item,) = job.items
    made = item.result
    if made is None:
        return [_cancelled_block(job, item)]
    voice = {"voice_path": path_or_url(made.voice.file_path), "speech": _speech_facts(made.voice)}
    facts = {**_video_facts(made.plan, made.video, job.id), **voice}
    notes = [*job.plan.speech.notes, *made.plan.notes, *made.notes]
    return _with_images(facts, notes, [made.video], call, services, preview) + _speech_links(made.voice, call)


def _video_facts(plan: VideoPlan | TextVideoPlan, made: MadeVideo, job_id: str) -> dict[str, Any]:
    """What a result says of a video."""
    from omni.video.text_generate import TextVideoPlan

    facts = made.facts
    audio: dict[str, Any]
    if isinstance(plan, TextVideoPlan):
        server, audio = {"server_url": plan.client.url}, {"has_audio": facts.has_audio}
        message = _VIDEO_MESSAGE
    else:
        server, audio = {"model_used": plan.model_type}, {"audio_duration_seconds": plan.parameters.audio_s}
        message = f"{_VIDEO_MESSAGE} {_CLIP_MESSAGE}" if plan.from_clip else _VIDEO_MESSAGE
    return {
        "status": "success",
        "output_path": path_or_url(made.file_path),
        **server,
        "message": message,
        "method": plan.method,
        "served_model": plan.model.name,
        "duration_seconds": round(facts.duration_s, 3),
        "frames": facts.frames,
        "fps": facts.fps,
        "resolution": f"{facts.width}x{facts.height}",
        **audio,
        "seed": made.parameters.seed,
        "generation_time_seconds": made.generation_time_s,
        "parameters_used": made.parameters,
        "job_id": job_id,
    }


def speech_report(job: Job[SpeechPlan, MadeSpeech], call: Call, services: Services, preview: str) -> list[Json]:
    """The result of `generate_speech`; raises `JobFailed`."""
    (item,) = job.items
    made = item.result
    if made is None:
        return [_cancelled_block(job, item)]
    result = {
        "status": "success",
        "file_path": path_or_url(made.file_path),
        **_speech_facts(made),
        "job_id": job.id,
        **({"notes": job.plan.notes} if job.plan.notes else {}),
    }
    return [_json_block(result), *_speech_links(made, call)]


def _speech_facts(made: MadeSpeech) -> dict[str, Any]:
    """What a result says of a speech."""
    return {
        "duration_seconds": round(made.facts.duration_s, 3),
        "sample_rate": made.facts.sample_rate,
        "format": made.parameters.format,
        "voice": made.parameters.voice,
        "seed": made.parameters.seed,
        "generation_time_seconds": made.generation_time_s,
        "parameters_used": made.parameters,
    }


def _speech_links(made: MadeSpeech, call: Call) -> list[Json]:
    """The link to the file of a speech, where the client knows links."""
    return [_link(made.file_path, made.n_bytes, made.parameters.text)] if call.revision.resource_links else []


_VIDEO_MESSAGE = "The video was generated, checked to its last frame and saved."
_CLIP_MESSAGE = (
    "No model here edits the lips of an existing clip: the clip's first frame was animated again, and the clip's own "
    "motion is lost."
)

Report = Callable[["AnyJob", "Call", "Services", str], "list[Json]"]
REPORTS: Mapping[str, Report] = {
    "talking": talking_report,
    "image": image_report,
    "batch": batch_report,
    "video": video_report,
    "speech": speech_report,
}
"""The result of each kind of job once it has ended."""


_BATCH_STATUS = {State.CANCELLED: "cancelled", State.FAILED: "error", State.SUCCEEDED: "success"}


def _batch_entry(item: Item[MadeImage], plan: ImagePlan, common: Mapping[str, Any]) -> dict[str, Any]:
    """An image of a batch, with those of its parameters that are not as the common ones say."""
    made = item.result
    parameters = plan.images[item.index] if made is None else made.parameters
    own = {name: value for name, value in msgspec.to_builtins(parameters).items() if common.get(name) != value}
    entry = {"index": item.index, **own}
    if made is not None:
        path = made.file_path and path_or_url(made.file_path)
        return {**entry, "file_path": path, "generation_time_seconds": made.generation_time_s}
    return {**entry, "error": item.error or "Cancelled before it was done."}


def _cancelled_block(job: AnyJob, item: Item[Any]) -> Json:
    """The result of a job with one item that was cancelled; raises `JobFailed` if it failed."""
    if item.state is State.FAILED:
        raise JobFailed(item.error or "The generation failed.")
    kept = {"files_kept": [path_or_url(path) for path in job.kept_files]} if job.kept_files else {}
    return _json_block({"status": "cancelled", "job_id": job.id, "message": "Cancelled before it was done.", **kept})


def _with_images(
    facts: dict[str, Any],
    notes: Sequence[str],
    made: Sequence[MadeImage | MadeVideo],
    call: Call,
    services: Services,
    preview: str,
    numbers: Sequence[int] = (0,),
) -> list[Json]:
    """The content of a result: the facts with the notes, a preview, and a link to each file."""
    all_notes = list(notes)
    image = _preview(made, numbers, preview, services, all_notes)
    blocks = [_json_block({**facts, "notes": all_notes} if all_notes else facts)]
    if image is not None:
        blocks.append(image_block(image.data, image.mime_type))
    if call.revision.resource_links:
        saved = [(each, each.file_path) for each in made if each.file_path is not None]
        blocks += [_link(path, each.n_bytes, each.parameters.prompt) for each, path in saved]
    return blocks


def _preview(
    made: Sequence[MadeImage | MadeVideo], numbers: Sequence[int], kind: str, services: Services, notes: list[str]
) -> Preview | None:
    """The preview of some files; adds a note if it is not what the caller requested. Images that could not be saved
    always have a preview: nothing else is left of them."""
    from omni.images import previews

    pairs = [pair for pair in zip(made, numbers, strict=True) if kind != "none" or _unsaved(pair[0]) is not None]
    if not pairs:
        return None
    decoder = services.decoder
    try:
        files = [_content(image) for image, _ in pairs]
        if (made[0].file_path or "").endswith(".mp4"):
            return previews.video_preview(files[0], decoder)
        if len(files) > 1:
            return previews.contact_sheet(files, [number for _, number in pairs], decoder)
        if kind == "full":
            max_bytes = int((services.settings.server.max_result_bytes - RESERVED_BYTES) / BASE64_GROWTH)
            whole = previews.full_preview(files[0], max_bytes, decoder)
            if whole is not None:
                return whole
            notes.append("The image is too large for a result in full size; the preview is reduced.")
        return previews.small_preview(files[0], decoder)
    except (OSError, MediaError):
        notes.append("There is no preview: the file was moved or changed since it was saved.")
        return None


def _unsaved(made: MadeImage | MadeVideo) -> Preview | None:
    from omni.images.generate import MadeImage

    return made.unsaved if isinstance(made, MadeImage) else None


def _content(made: MadeImage | MadeVideo) -> bytes:
    unsaved = _unsaved(made)
    if unsaved is not None:
        return unsaved.data
    assert made.file_path is not None
    with open(made.file_path, "rb") as file:
        return file.read()


def _link(path: str, n_bytes: int, prompt: str) -> Json:
    description = prompt if len(prompt) <= 200 else prompt[:199] + "…"
    mime_type = media_type(path) or "application/octet-stream"
    return link_block(url_of_path(path), os.path.basename(path), mime_type, n_bytes, description)


def _ids(job: AnyJob) -> dict[str, str]:
    return {"batch_id": job.id} if job.kind == "batch" else {"job_id": job.id}


def _files(job: AnyJob) -> list[str]:
    saved = [getattr(item.result, "file_path", None) for item in job.items]
    return [path_or_url(path) for path in [*job.kept_files, *saved] if path is not None]


def _notes(item: Item[Any]) -> list[str]:
    return item.result.notes if item.result is not None else []


def _json_block(facts: dict[str, Any]) -> Json:
    return text_block(_json(facts))


def _json(facts: dict[str, Any]) -> str:
    return msgspec.json.encode(facts).decode()
