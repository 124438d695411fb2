"""A server with the part of Hugging Face's API that a download uses: one model, out of a folder.

with ModelHub("owner/model", folder) as hub:
    environment = {"HF_ENDPOINT": hub.url}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class ModelHub:
    """The server, in threads of its own.

    Arguments:
        name: `owner/model`.
        folder: its files.
        weights_gate: what the weights wait for, `None` for nothing.

    Attributes: `url`; `requests` are the method and path of each request; `asked_for_weights` is set by the first
    request for them.
    """

    def __init__(self, name: str, folder: Path, weights_gate: threading.Event | None = None) -> None:
        self.name = name
        self.folder = folder
        self.weights_gate = weights_gate
        self.asked_for_weights = threading.Event()
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub._answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, format: str, *arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(request.path).path)
        self.requests.append(f"{request.command} {request.path}")
        if path.startswith(f"/api/models/{self.name}"):
            found = self._api(path.removeprefix(f"/api/models/{self.name}").strip("/"), body)
            self._send(request, 200 if found is not None else 404, json.dumps(found).encode(), {})
            return
        prefix = f"/{self.name}/resolve/"
        file = self.folder / path.removeprefix(prefix).partition("/")[2]
        if not path.startswith(prefix) or not file.is_file():
            code = "EntryNotFound" if path.startswith(prefix) else "RepoNotFound"
            self._send(request, 404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})
            return
        if file.suffix == ".safetensors" and request.command == "GET":
            self.asked_for_weights.set()
            if self.weights_gate is not None:
                self.weights_gate.wait(120)
        content = file.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        self._send(request, 200, content, headers)

    def _api(self, path: str, body: bytes) -> object:
        """The answer below `/api/models/NAME`, `None` for what is not there."""
        files = [
            {
                "type": "file",
                "path": file.name,
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for file in sorted(self.folder.iterdir())
        ]
        kind = path.partition("/")[0]
        if kind == "tree":
            return files
        if kind == "paths-info":
            text = body.decode()
            wanted = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            return [file for file in files if file["path"] in wanted]
        if kind in ("", "revision"):
            return {
                "id": self.name,
                "modelId": self.name,
                "sha": COMMIT,
                "private": False,
                "tags": [],
                "siblings": [{"rfilename": file["path"]} for file in files],
            }
        return None

    def _send(self, request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "Content-Type": "application/json"}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            with contextlib.suppress(OSError):  # the client has gone
                request.wfile.write(content)
