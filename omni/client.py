"""The HTTP API of a vLLM-Omni server: one class that speaks it, and one function that turns its failures into ours.

Answers are bounded in bytes and seconds, redirects are not followed, and nothing of the environment (proxies, netrc)
changes where a request goes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from omni.errors import (
    ConnectionLost,
    ModelChanged,
    ServerFailed,
    ServerOutOfMemory,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
    UnusableAnswer,
    plain,
)

CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 10.0
"""For questions that a server answers at once when it is well."""
MAX_ASK_BYTES = 1_000_000
BYTES_PER_PIXEL = 12
"""A picture of random pixels with 16 bits a channel takes 8 bytes a pixel as PNG, and a third more in base64."""

_OUT_OF_MEMORY = re.compile(
    r"out[ -]of[ -]memory|outofmemory|can't allocate memory|cannot allocate memory|not enough memory|\bOOM\b",
    re.IGNORECASE,
)

T = TypeVar("T")

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request


class ServedModel(msgspec.Struct, frozen=True):
    """The model that a server serves: its name there, and where the server has it from."""

    id: str
    root: str | None = None

    @property
    def shown(self) -> str:
        """The name without the folders of the machine that serves it, which are nobody's business."""
        return self.id.rstrip("/").rpartition("/")[2] if self.id.startswith("/") else self.id


class _ModelList(msgspec.Struct):
    data: list[ServedModel] = []


class _Picture(msgspec.Struct):
    b64_json: bytes | None = None


class _Pictures(msgspec.Struct):
    data: list[_Picture] | None = None
    metrics: Any = None


class Picture(msgspec.Struct, frozen=True):
    """What a server made: the encoded picture, and what it says that took in seconds and of its memory in MB."""

    data: bytes
    compute_s: float | None
    peak_memory_mb: float | None


class OmniClient:
    """One server. Every method may raise `ServerUnreachable`, `ConnectionLost`, `ServerTooSlow`, `ServerRefused`,
    `ServerFailed` or `UnusableAnswer`. It belongs to the event loop that first uses it.

    Arguments: the server's URL; seconds for one generation; the key it asks for, if it does.
    """

    url_setting = "OMNI_URL"
    """The setting that has this server's address."""
    health_tool = "server_health"
    """The tool that tells what is there."""

    def __init__(self, url: str, timeout_s: float, api_key: str | None = None) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Accept-Encoding": "identity", **({"Authorization": f"Bearer {api_key}"} if api_key else {})},
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=4.0),  # uvicorn closes after 5 s
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def latency_ms(self) -> float:
        """How long the server takes to say that it is well."""
        start_s = time.monotonic()
        await self._ask("/health")
        return round((time.monotonic() - start_s) * 1000, 1)

    async def served_model(self) -> ServedModel:
        """The model on the server; a vLLM-Omni server has one, under one or more names."""
        answer = self._decoded(await self._ask("/v1/models"), _ModelList)
        if not answer.data:
            raise UnusableAnswer(f"The vLLM server at {self.url} serves no model.")
        return answer.data[0]

    async def version(self) -> str | None:
        """The server's version; None where it does not tell."""
        try:
            answer = self._decoded(await self._ask("/version"), dict[str, Any])
        except (ServerRefused, ServerFailed, UnusableAnswer):
            return None
        found = answer.get("version")
        return plain(found) if isinstance(found, str) else None

    async def generate(self, fields: dict[str, Any], n_pixels: int) -> Picture:
        """One picture from words; `n_pixels` bounds how long the answer may be."""
        return self._picture(await self._generated("/v1/images/generations", n_pixels, json=fields))

    async def edit(self, fields: dict[str, Any], images: Sequence[bytes], n_pixels: int) -> Picture:
        """One picture from words and 1 to 4 pictures, given as PNG files."""
        files = [("image[]" if len(images) > 1 else "image", ("image.png", data, "image/png")) for data in images]
        form = {name: str(value) for name, value in fields.items()}
        return self._picture(await self._generated("/v1/images/edits", n_pixels, data=form, files=files))

    async def _generated(self, path: str, n_pixels: int, **body: Any) -> bytes:
        max_bytes = MAX_ASK_BYTES + BYTES_PER_PIXEL * n_pixels
        return await self._answer("POST", path, self.timeout_s, max_bytes, **body)

    async def _ask(self, path: str) -> bytes:
        """The answer to a question, asked again where a connection that was kept open turns out to be closed."""
        try:
            return await self._answer("GET", path, ASK_TIMEOUT_S, MAX_ASK_BYTES)
        except ConnectionLost:
            return await self._answer("GET", path, ASK_TIMEOUT_S, MAX_ASK_BYTES)

    async def _answer(self, method: str, path: str, timeout_s: float, max_bytes: int, **body: Any) -> bytes:
        """The body of a successful answer."""
        status, data = await self._exchange(method, path, timeout_s, max_bytes, **body)
        if not 200 <= status < 300:
            raise failure(status, data)
        return data

    async def _exchange(
        self, method: str, path: str, timeout_s: float, max_bytes: int, **body: Any
    ) -> tuple[int, bytes]:
        """Any answer that is no redirect: its status and its body."""
        async with self._stream(method, path, timeout_s, **body) as response:
            data = await _bounded(response, max_bytes)
            if response.is_redirect:
                raise UnusableAnswer(
                    f"The server at {self.url} redirects to another address, which is not followed. Set "
                    f"{self.url_setting} to the vLLM-Omni server's own address."
                )
            return response.status_code, data

    @asynccontextmanager
    async def _stream(self, method: str, path: str, timeout_s: float, **body: Any) -> AsyncIterator[httpx.Response]:
        """An open answer; what breaks while it is read is translated too."""
        try:
            async with asyncio.timeout(timeout_s), self._http.stream(method, path, **body) as response:
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL):
            raise ServerUnreachable(self.url, self.health_tool) from None
        except (TimeoutError, httpx.TimeoutException):
            raise ServerTooSlow(
                f"The vLLM server at {self.url} did not answer within {timeout_s:g} s. "
                + ("Try fewer steps or a smaller size, or raise OMNI_TIMEOUT." if method == "POST" else "Try again.")
            ) from None
        except httpx.HTTPError:
            raise ConnectionLost(self.url, self.health_tool) from None

    def _picture(self, data: bytes) -> Picture:
        answer = self._decoded(data, _Pictures)
        encoded = answer.data[0].b64_json if answer.data else None
        if not encoded:
            raise UnusableAnswer("The vLLM server answered without a picture.")
        metrics = answer.metrics if isinstance(answer.metrics, dict) else {}
        durations = metrics.get("stage_durations")
        compute_ms = _positive(durations.get("stage_0_gen_ms")) if isinstance(durations, dict) else None
        compute_s = None if compute_ms is None else compute_ms / 1000
        return Picture(encoded, compute_s, _positive(metrics.get("peak_memory_mb")))

    def _decoded(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UnusableAnswer(
                f"The server at {self.url} answered something that a vLLM-Omni server does not. "
                f"Check {self.url_setting}, and with `{self.health_tool}` what is there."
            ) from None


def is_on_this_machine(url: str) -> bool:
    """Whether a URL leads to this machine, as far as that can be told without asking a name server."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().casefold():
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))  # only an address of this machine can be bound to
        except OSError:
            return False
    return True


def failure(status: int, data: bytes) -> ServerRefused | ServerFailed:
    """What a server's refusal means, by its status and by its words."""
    said = plain(_message(data))
    words = f": {said}" if said else " and gave no reason"
    if _OUT_OF_MEMORY.search(said):
        return ServerOutOfMemory()
    if status in (401, 403):
        return ServerRefused(f"The vLLM server asks for a key (HTTP {status}). Set OMNI_API_KEY.")
    if status == 404:
        return ServerRefused(f"The vLLM server does not offer this (HTTP 404){words}. Is it a vLLM-Omni server?")
    if status == 429:
        return ServerRefused(f"The vLLM server has too many requests (HTTP 429){words}. Try again in a moment.")
    if status == 400 and said.startswith("Model mismatch"):
        return ModelChanged("The vLLM server serves another model by now. Try again.")
    if status < 500:
        return ServerRefused(f"The vLLM server refused the request (HTTP {status}){words}.")
    if status == 503:
        return ServerFailed(
            f"The vLLM server is not ready, or cannot do this (HTTP 503){words}. Check with `server_health` tool."
        )
    return ServerFailed(f"The vLLM server failed (HTTP {status}){words}.")


def _message(data: bytes) -> str:
    """The sentence in an error's body: vLLM's `error.message`, FastAPI's `detail`; "" for anything else."""
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    error = body.get("error", body) if isinstance(body, dict) else {}
    found = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    return found if isinstance(found, str) else ""


def _positive(figure: Any) -> float | None:
    return float(figure) if isinstance(figure, int | float) and figure > 0 else None


async def _bounded(response: httpx.Response, max_bytes: int) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise UnusableAnswer("The vLLM server's answer is compressed, which nobody asked it for.")
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > max_bytes:
            raise UnusableAnswer(f"The vLLM server's answer is longer than {max_bytes} bytes, and was not read on.")
    return bytes(data)
