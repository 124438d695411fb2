"""What jobs have come to, as tools answer it: the facts as JSON, a picture to look at, and links to the files.

There is no structured content beside a picture: hosts drop or repeat pictures then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from handlers.files import media_type
from mcp_protocol.tools import image_block, link_block, text_block
from media.errors import MediaError
from omni.errors import JobFailed
from omni.files import shown_path
from omni.job import State

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call
    from mcp_protocol.jsonrpc import Json
    from omni.generate import MadeImage, Plan
    from omni.job import Item, Job
    from omni.pictures import Preview
    from omni.video import MadeVideo, VideoOrder

BASE64_GROWTH = 4 / 3
BESIDE_PREVIEW_BYTES = 20_000
"""What is left in a result for everything but its preview."""


def running(job: Job) -> list[Json]:
    """A job that goes on."""
    facts = {
        "status": "running",
        **_ids(job),
        "completed": job.count(State.SUCCEEDED),
        "failed": job.count(State.FAILED),
        "total": len(job.items),
        "elapsed_seconds": round(job.elapsed_s, 3),
        **({"phase": job.phase} if job.phase else {}),
        "message": (
            f"It goes on. Ask job_status with job_id {job.id} for the result (wait_s waits for it), or stop it with "
            "cancel_batch."
        ),
    }
    return [_json_block(facts)]


def cancelled(job: Job, was_over: bool) -> tuple[str, int, int, int, list[str], str]:
    """What cancelling has come to: status, numbers completed, cancelled and failed, files, and a sentence."""
    n_done, n_cancelled, n_failed = map(job.count, (State.SUCCEEDED, State.CANCELLED, State.FAILED))
    if was_over:
        status, message = str(job.state), f"The job had ended before ({job.state}); there was nothing to cancel."
    elif not job.ended:
        status, message = "cancelling", "What runs on the server has not stopped yet; ask job_status."
    elif job.state is State.CANCELLED:
        status, message = "cancelled", "The job was cancelled; files that were saved before are kept."
    else:
        status, message = str(job.state), "The job ended in the very moment in which it was to be cancelled."
    return status, n_done, n_cancelled, n_failed, _files(job), message


def image_report(job: Job, call: Call, services: Services, preview: str) -> list[Json]:
    """A picture, or why there is none; raises `JobFailed`."""
    (item,) = job.items
    made: MadeImage | None = item.result
    if made is None:
        return [_nothing(job, item)]
    facts = {
        "status": "success" if made.unsaved is None else "not_saved",
        "file_path": _told(made.file_path),
        "generation_time_seconds": made.generation_time_s,
        "parameters_used": made.parameters,
        "job_id": job.id,
    }
    return _with_pictures(facts, [*job.details.notes, *made.notes], [made], call, services, preview)


def batch_report(job: Job, call: Call, services: Services, preview: str) -> list[Json]:
    """All pictures of a batch; raises `JobFailed` where all of them failed."""
    plan: Plan = job.details
    facts = {
        "status": _batch_status(job),
        "batch_id": job.id,
        "total_time_seconds": round(job.elapsed_s, 3),
        "images_generated": job.count(State.SUCCEEDED),
        "images_failed": job.count(State.FAILED),
        "images_cancelled": job.count(State.CANCELLED),
        "results": [_batch_entry(item, plan) for item in job.items],
    }
    if job.state is State.FAILED:
        raise JobFailed(_json(facts))
    done = [item for item in job.items if item.result is not None]
    made, numbers = [item.result for item in done], [item.index for item in done]
    notes = plan.notes + [f"Image {item.index}: {note}" for item in job.items for note in _notes(item)]
    return _with_pictures(facts, notes, made, call, services, preview, numbers)


def video_report(job: Job, call: Call, services: Services, preview: str) -> list[Json]:
    """A talking video, or why there is none; raises `JobFailed`."""
    (item,) = job.items
    made: MadeVideo | None = item.result
    if made is None:
        return [_nothing(job, item)]
    order: VideoOrder = job.details
    plan, facts = order.plan, made.facts
    told = {
        "status": "success",
        "output_path": _told(made.file_path),
        "model_used": plan.model_type,
        "message": _VIDEO_MESSAGES[order.from_clip],
        "method": order.method,
        "served_model": plan.model.name,
        "duration_seconds": round(facts.duration_s, 3),
        "frames": facts.frames,
        "fps": facts.fps,
        "resolution": f"{facts.width}x{facts.height}",
        "audio_duration_seconds": made.parameters.audio_s,
        "seed": made.parameters.seed,
        "generation_time_seconds": made.generation_time_s,
        "parameters_used": made.parameters,
        "job_id": job.id,
    }
    return _with_pictures(told, [*plan.notes, *made.notes], [made], call, services, preview)


_VIDEO_MESSAGES = {
    False: "The picture talks: the video was made, checked to its last frame and saved.",
    True: (
        "The video was made, checked to its last frame and saved. No model here changes the lips of an existing clip: "
        "the clip's first frame was animated anew, and the clip's own motion was not kept."
    ),
}

Report = Callable[["Job", "Call", "Services", str], "list[Json]"]
REPORTS: Mapping[str, Report] = {"image": image_report, "batch": batch_report, "video": video_report}
"""How each kind of job is told about once it has ended."""


def _batch_status(job: Job) -> str:
    if job.state is State.CANCELLED:
        return "cancelled"
    return "error" if job.state is State.FAILED else "success"


def _batch_entry(item: Item, plan: Plan) -> dict[str, Any]:
    made: MadeImage | None = item.result
    entry = {"index": item.index, "prompt": item.label, "seed": plan.images[item.index].seed}
    if made is not None:
        return {**entry, "file_path": _told(made.file_path), "generation_time_seconds": made.generation_time_s}
    return {**entry, "error": item.error or "Cancelled before it was done."}


def _nothing(job: Job, item: Item) -> Json:
    """A job of one without a result: cancelled, or failed, which is an error."""
    if item.state is State.FAILED:
        raise JobFailed(item.error or "The generation failed.")
    return _json_block({"status": "cancelled", "job_id": job.id, "message": "It was cancelled before it was done."})


def _with_pictures(
    facts: dict[str, Any],
    notes: Sequence[str],
    made: Sequence[MadeImage | MadeVideo],
    call: Call,
    services: Services,
    preview: str,
    numbers: Sequence[int] = (0,),
) -> list[Json]:
    """The facts with what else is to be said, a picture of the pictures with their numbers, and a link to each file."""
    more = list(notes)
    shown = _preview(made, numbers, preview, services, more)
    blocks = [_json_block({**facts, "notes": more} if more else facts)]
    if shown is not None:
        blocks.append(image_block(shown.data, shown.mime_type))
    if call.revision.resource_links:
        saved = [(image, image.file_path) for image in made if image.file_path is not None]
        blocks += [_link(path, image.n_bytes, image.parameters.prompt) for image, path in saved]
    return blocks


def _preview(
    made: Sequence[MadeImage | MadeVideo], numbers: Sequence[int], kind: str, services: Services, notes: list[str]
) -> Preview | None:
    """What to show of some files within a result; a note is added where it is not what was asked for.

    Pictures that could not be saved are shown in any case: there is nothing else of them.
    """
    from omni import pictures

    shown = [entry for entry in zip(made, numbers, strict=True) if kind != "none" or _unsaved(entry[0]) is not None]
    if not shown:
        return None
    decoder = services.decoder
    try:
        files = [_content(image) for image, _ in shown]
        if (made[0].file_path or "").endswith(".mp4"):
            return pictures.video_preview(files[0], decoder)
        if len(files) > 1:
            return pictures.contact_sheet(files, [number for _, number in shown], decoder)
        if kind == "full":
            max_bytes = int((services.settings.server.max_result_bytes - BESIDE_PREVIEW_BYTES) / BASE64_GROWTH)
            whole = pictures.full_preview(files[0], max_bytes, decoder)
            if whole is not None:
                return whole
            notes.append("The picture is too large for a result at its own size; the preview is reduced.")
        return pictures.small_preview(files[0], decoder)
    except (OSError, MediaError):
        notes.append("There is no preview: the file was moved or changed since it was made.")
        return None


def _unsaved(made: MadeImage | MadeVideo) -> Preview | None:
    from omni.generate import MadeImage

    return made.unsaved if isinstance(made, MadeImage) else None


def _content(made: MadeImage | MadeVideo) -> bytes:
    unsaved = _unsaved(made)
    if unsaved is not None:
        return unsaved.data
    assert made.file_path is not None
    with open(made.file_path, "rb") as file:
        return file.read()


def _told(path: str | None) -> str | None:
    """A path as results tell it: one that is not UTF-8 as the URL of its file, which calls take in its place."""
    if path is None:
        return None
    return path if shown_path(path) == path else _uri(path)


def _uri(path: str) -> str:
    return "file://" + quote(os.fsencode(path))


def _link(path: str, n_bytes: int, prompt: str) -> Json:
    description = prompt if len(prompt) <= 200 else prompt[:199] + "…"
    mime_type = media_type(path) or "application/octet-stream"
    return link_block(_uri(path), os.path.basename(path), mime_type, n_bytes, description)


def _ids(job: Job) -> dict[str, str]:
    return {"batch_id": job.id} if job.kind == "batch" else {"job_id": job.id}


def _files(job: Job) -> list[str]:
    paths = [_told(item.result.file_path) for item in job.items if item.result is not None]
    return [path for path in paths if path is not None]


def _notes(item: Item) -> list[str]:
    return item.result.notes if item.result is not None else []


def _json_block(facts: dict[str, Any]) -> Json:
    return text_block(_json(facts))


def _json(facts: dict[str, Any]) -> str:
    return msgspec.json.encode(facts).decode()
