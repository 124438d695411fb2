"""A server that speaks vLLM-Omni's videos API as its script says: honestly by default, or as badly as servers can."""

from __future__ import annotations

import json
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from tests.scripted_omni import Request, Route, ScriptedOmni
from tests.scripted_server import Json
from tests.unit.media.sample_media import video_file

MODEL = "Wan-AI/Wan2.2-S2V-14B"
FROM_WORDS_MODEL = "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
NOT_FOUND = b'{"error": {"message": "Video not found", "type": "Not Found", "param": null, "code": 404}}'


class ScriptedVideoServer(ScriptedOmni):
    """Jobs on it are done as soon as they are asked about for the time after `n_polls`; `made` is what comes of them.

    `steps` has routes in place of the honest ones, by what is asked: models, submit, job, content, delete.
    """

    def __init__(self, model: str = MODEL) -> None:
        super().__init__(model)
        self.n_polls = 0
        self.made: bytes | None = None
        self.jobs: dict[str, int] = {}
        self.submitted: list[Json] = []
        self.deleted: list[str] = []
        self.steps: dict[str, list[Route]] = {}

    def step(self, name: str, *routes: Route) -> None:
        """Says how the next requests of a kind are answered, the last one for ever."""
        self.steps[name] = list(routes)

    def honest(self, request: Request, fields: Json) -> None:
        """Finds the kind of the request and answers by its script, or as vLLM-Omni does."""
        parts = request.path.strip("/").split("/")
        if parts[:2] != ["v1", "videos"]:
            name = "models"
        elif len(parts) == 2:
            name = "submit"
        else:
            name = "content" if len(parts) == 4 else {"GET": "job", "DELETE": "delete"}[request.command]
        if name == "submit":
            with self.lock:
                self.submitted.append(_form(request, fields["body"]))
        if name == "delete":
            with self.lock:
                self.deleted.append(parts[2])
        script = self.steps.get(name, [])
        route = script.pop(0) if len(script) > 1 else script[0] if script else None
        if route is not None:
            route(request, fields)
        elif name == "models":
            super().honest(request, fields)
        else:
            self._answer(name, request, parts)

    def _answer(self, name: str, request: Request, parts: list[str]) -> None:
        if name == "submit":
            video_id = f"video_gen_{len(self.submitted)}"
            with self.lock:
                self.jobs[video_id] = self.n_polls
            request.answer(job_json(video_id, "queued"))
            return
        video_id = parts[2]
        with self.lock:
            left = self.jobs.get(video_id)
            if left is not None and name == "job":
                self.jobs[video_id] = left - 1
        if left is None:
            request.answer(NOT_FOUND, 404)
        elif name == "job":
            request.answer(job_json(video_id, "completed" if left <= 0 else "in_progress"))
        elif name == "delete":
            del self.jobs[video_id]
            request.answer(json.dumps({"id": video_id, "deleted": True, "object": "video.deleted"}).encode())
        else:
            request.answer(self.made or made_from(self.submitted[-1]), Content_Type="video/mp4")


def job_json(video_id: str, status: str, **more: Any) -> bytes:
    """A job as vLLM-Omni tells of it."""
    done = {"inference_time_s": 2.0, "peak_memory_mb": 900.0} if status == "completed" else {}
    job = {"id": video_id, "object": "video", "status": status, "progress": 0, "error": None, **done, **more}
    return json.dumps(job).encode()


def failed(message: str, status: int = 500, video_id: str = "video_gen_1") -> Route:
    """A route that tells of a failed job: with the status of an error and the job as the body."""
    body = job_json(video_id, "failed", error={"code": status, "message": message})
    return lambda request, fields: request.answer(body, status)


def made_from(form: Json) -> bytes:
    """A video of the size and length that was asked for, with sound where sound was given."""
    width, height = map(int, form["size"].split("x"))
    frames, fps = int(form["num_frames"]), int(form["fps"])
    audio = "aac" if "audio_reference" in form else None
    return video_file(size=(width, height), frames=frames, fps=fps, audio=audio)


def _form(request: Request, body: bytes) -> Json:
    """The parts of a multipart form; files as bytes."""
    head = b"Content-Type: " + request.headers["Content-Type"].encode() + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    found: Json = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = part.get_param("name", header="content-disposition")
        found[str(name)] = content if part.get_filename() else content.decode()
    return found
