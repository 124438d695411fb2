"""A server that speaks the OpenAI API as its script says: honestly by default, or as badly as servers can."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from tests.scripted_server import Json, ScriptedRequest, ScriptedServer

Route = Callable[["Request", Json], None]
CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
MODEL = "scripted-vlm"


class Request(ScriptedRequest):
    """One request to the server."""

    server: ScriptedOpenAI
    default_headers: ClassVar[Json] = {"Content_Type": "application/json"}

    def do_GET(self) -> None:
        self.follow_script({})

    def do_POST(self) -> None:
        self.follow_script(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0)))))

    def note(self, fields: Json) -> None:
        """Remembers path and fields, and the key that was shown."""
        self.server.seen.append((self.path, fields))
        self.server.keys.append(self.headers.get("Authorization"))

    def begin(self) -> None:
        """Begins a stream that ends with the connection."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, event: Json | str) -> None:
        """Sends one event."""
        text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def is_hung_up_on(self, wait_s: float = 5.0) -> bool:
        """Whether the client closes its connection within that time."""
        self.connection.settimeout(wait_s)
        try:
            return len(self.connection.recv(1)) == 0
        except ConnectionError:
            return True
        except TimeoutError:
            return False


class ScriptedOpenAI(ScriptedServer):
    """`seen` has all requests, `keys` what each of them showed for a key.

    Arguments: the models that it lists; who owns them, `vllm` for a vLLM server; its port,
    any free one by default.
    """

    def __init__(self, models: Iterable[str] = (MODEL,), owned_by: str | None = "vllm", port: int = 0) -> None:
        super().__init__(Request, port)
        self.models = list(models)
        self.owned_by = owned_by
        self.seen: list[tuple[str, Json]] = []
        self.keys: list[str | None] = []

    def script(self, *routes: Route, path: str = CHAT) -> None:
        """Says how the next requests of a path are answered, the last one for ever."""
        self.scripts[path] = list(routes)

    def chats(self) -> list[Json]:
        """The fields of all requests for an answer so far."""
        return [fields for path, fields in self.seen if path == CHAT]

    def honest(self, request: Request, fields: Json) -> None:
        """As a server answers: with the last message's words."""
        if request.path == MODELS:
            entries = [{"id": name, "owned_by": self.owned_by, "max_model_len": 2048} for name in self.models]
            request.answer(json.dumps({"object": "list", "data": entries}).encode())
        elif request.path == "/version":
            request.answer(b'{"version":"0.32.0"}')
        elif request.path == CHAT:
            content = fields["messages"][-1]["content"]
            text = content if isinstance(content, str) else content[0]["text"]
            streams(*said(*text.split(" ")))(request, fields)
        else:
            request.answer(b'{"detail":"Not Found"}', 404)


def piece(finish_reason: str | None = None, logprobs: list[Json] | None = None, **delta: Any) -> Json:
    """One event with new text, reasoning or pieces of calls."""
    said = None if logprobs is None else {"content": logprobs}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": said}]}


def usage(prompt_tokens: int = 7, completion_tokens: int = 3, **details: Any) -> Json:
    """The last event, which counts."""
    counts: Json = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    if details:
        counts["prompt_tokens_details"] = details
    return {"choices": [], "usage": counts}


def said(*words: str, finish_reason: str = "stop") -> list[Json | str]:
    """All events of an answer, one a word."""
    texts = [words[0], *(f" {word}" for word in words[1:])]
    pieces: list[Json | str] = [piece(content=text) for text in texts]
    return [piece(role="assistant", content=""), *pieces, piece(finish_reason), usage(), "[DONE]"]


def streams(*events: Json | str, delay_s: float = 0.0) -> Route:
    """A route that sends these events, and nothing after them."""

    def route(request: Request, fields: Json) -> None:
        request.begin()
        for event in events:
            request.event(event)
            time.sleep(delay_s)

    return route


def cut_up(body: bytes, at: int) -> Route:
    """A route that sends a stream's bytes in pieces of that length, wherever that falls."""

    def route(request: Request, fields: Json) -> None:
        request.begin()
        for start in range(0, len(body), at):
            request.wfile.write(body[start : start + at])
            request.wfile.flush()
            time.sleep(0.001)

    return route


def answers(body: bytes, status: int = 200, **headers: str) -> Route:
    """A route that answers with a body."""
    return lambda request, fields: request.answer(body, status, **headers)


def refuses(status: int, message: str, **headers: str) -> Route:
    """A route that answers with an error in OpenAI's form."""
    error = {"error": {"message": message, "type": "Error", "param": None, "code": status}}
    return answers(json.dumps(error).encode(), status, **headers)


def echoes_key(status: int) -> Route:
    """A route that answers with an error that shows what was sent for a key, in its body and in a header."""

    def route(request: Request, fields: Json) -> None:
        shown = request.headers.get("Authorization") or ""
        error = {"error": {"message": f"You sent {shown} ({shown.removeprefix('Bearer ')})."}}
        request.answer(json.dumps(error).encode(), status, X_Your_Key=shown)

    return route


def hangs_up(request: Request, fields: Json) -> None:
    """Resets the connection in the middle of a stream."""
    request.begin()
    request.event(piece(content="half"))
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def goes_on(request: Request, fields: Json) -> None:
    """Sends a word every 10 ms, without an end."""
    request.begin()
    while True:
        request.event(piece(content="on "))
        time.sleep(0.01)


def floods(request: Request, fields: Json) -> None:
    """Sends bytes without an end of line, as fast as they are read."""
    request.begin()
    while True:
        request.wfile.write(b"data: " + b"x" * 0x10000)


def drips(request: Request, fields: Json) -> None:
    """Sends a comment now and then, and never an event."""
    request.begin()
    while True:
        request.wfile.write(b": ping\n\n")
        request.wfile.flush()
        time.sleep(0.02)
