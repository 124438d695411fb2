"""A server that speaks vLLM-Omni's images API as its script says: honestly by default, or as badly as servers can."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import time
from collections.abc import Callable

from PIL import Image

from tests.scripted_server import Json, ScriptedRequest, ScriptedServer

Route = Callable[["Request", Json], None]
MODEL = "black-forest-labs/FLUX.2-klein-4B"


class Request(ScriptedRequest):
    """One request to the server."""

    server: ScriptedOmni

    def do_GET(self) -> None:
        self._route(b"")

    def do_POST(self) -> None:
        self._route(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_DELETE(self) -> None:
        self._route(b"")

    def _route(self, body: bytes) -> None:
        is_json = self.headers.get("Content-Type") == "application/json"
        self.follow_script(json.loads(body) if is_json else {"body": body})

    def note(self, fields: Json) -> None:
        """Remembers method, path and fields."""
        self.server.seen.append((self.command, self.path, fields))


class ScriptedOmni(ScriptedServer):
    """A server of one model; `seen` has all requests."""

    def __init__(self, model: str = MODEL, port: int = 0) -> None:
        super().__init__(Request, port)
        self.model = model
        self.seen: list[tuple[str, str, Json]] = []
        self.delay_s = 0.0
        self.n_running = 0
        self.max_running = 0

    def script(self, *routes: Route, path: str = "/v1/images/generations") -> None:
        """Says how the next requests of a path are answered, the last one for ever."""
        self.scripts[path] = list(routes)

    def generations(self) -> list[Json]:
        """The fields of all requests for images so far."""
        return [fields for _, path, fields in self.seen if path == "/v1/images/generations"]

    def edits(self) -> list[dict[str, list[bytes]]]:
        """The fields and files of all requests for edits so far."""
        return [form_of(fields["body"]) for _, path, fields in self.seen if path == "/v1/images/edits"]

    def honest(self, request: Request, fields: Json) -> None:
        """As a vLLM-Omni server answers: the seed decides the image's colour."""
        if request.path == "/v1/models":
            request.answer(json.dumps({"data": [{"id": self.model, "root": self.model}]}).encode())
        elif request.path == "/version":
            request.answer(b'{"version":"0.30.0"}')
        elif request.path == "/v1/images/generations":
            with self.lock:
                self.n_running += 1
                self.max_running = max(self.max_running, self.n_running)
            time.sleep(self.delay_s)
            with self.lock:
                self.n_running -= 1
            width, height = map(int, fields["size"].split("x"))
            request.answer(images_json(png((width, height), fields["seed"])))
        elif request.path == "/v1/images/edits":
            request.answer(images_json(png((64, 64))))
        else:
            request.answer(b'{"status":"healthy"}')


def form_of(body: bytes) -> dict[str, list[bytes]]:
    """The fields and files of a multipart form, by name."""
    boundary = body.partition(b"\r\n")[0]
    found: dict[str, list[bytes]] = {}
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        found.setdefault(head.split(b'name="')[1].split(b'"')[0].decode(), []).append(content.removesuffix(b"\r\n"))
    return found


def png(size: tuple[int, int] = (64, 64), seed: int = 0) -> bytes:
    """An image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (seed & 255, seed >> 8 & 255, seed >> 16 & 255)).save(buffer, "PNG")
    return buffer.getvalue()


def images_json(*images: bytes) -> bytes:
    """The answer of the images API."""
    data = [{"b64_json": base64.b64encode(image).decode()} for image in images]
    metrics = {"stage_durations": {"stage_0_gen_ms": 50.0}, "peak_memory_mb": 512.0}
    return json.dumps({"created": 1, "data": data, "metrics": metrics}).encode()


def answers(body: bytes, status: int = 200, **headers: str) -> Route:
    """A route that answers with a body."""
    return lambda request, fields: request.answer(body, status, **headers)


def refuses(status: int, message: str) -> Route:
    """A route that answers with an error in vLLM's form."""
    error = {"error": {"message": message, "type": "Error", "param": None, "code": status}}
    return answers(json.dumps(error).encode(), status)


def hangs_up(request: Request, fields: Json) -> None:
    """Resets the connection in the middle of an answer."""
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    request.wfile.write(b'{"data":[{"b64_json":"iVBOR')
    request.wfile.flush()
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True  # closed with the handler's end, by a reset


def never_ends(request: Request, fields: Json) -> None:
    """Sends a body without an end, as fast as it is read."""
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    while True:
        request.wfile.write(block)


def drips(request: Request, fields: Json) -> None:
    """Sends a byte now and then."""
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    while True:
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.02)
