"""The HTTP side of an OpenAI-compatible server: its models, and one streamed chat completion at a time.

Answers are bounded in bytes and in the seconds without an event, redirects are not followed, and nothing of the
environment (proxies, netrc) changes where a request goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from engine.errors import EngineError, InvalidGeneration, ServerBusy
from engine.event_stream import Chunk, EventStream
from engine.remote_failures import RemoteServer, retry_after_s, status_of

CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 10.0
"""For questions that a server answers at once when it is well."""
MAX_ASK_BYTES = 4_000_000
MAX_ERROR_BYTES = 65_536
LAST_BYTES_S = 0.2
TRIES = 3
FIRST_WAIT_S = 1.0
"""Before the second try where the server does not say how long to wait; twice as much before the third."""
MOST_WAIT_S = 60.0

T = TypeVar("T")

for _name in ("httpx", "httpcore"):  # they tell of every request, and of the headers that come back
    logging.getLogger(_name).setLevel(logging.WARNING)


class ServedModel(msgspec.Struct, frozen=True):
    """A model that a server has. vLLM and its like tell the context's length, some routers what the model takes."""

    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    context_length: Any = None
    architecture: Any = None

    @property
    def context(self) -> int | None:
        """Tokens of prompt and answer together."""
        told = self.max_model_len or self.context_length
        return told if type(told) is int and told > 0 else None

    @property
    def modalities(self) -> tuple[str, ...] | None:
        """What it takes beside text, in the server's words; `None` where the server does not tell."""
        told = self.architecture.get("input_modalities") if isinstance(self.architecture, dict) else None
        if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
            return None
        return tuple(told)


class _ModelList(msgspec.Struct):
    data: list[ServedModel]


class _Version(msgspec.Struct):
    version: str


class OpenAIClient:
    """One server. Every method may raise `EngineUnavailable`, `InvalidGeneration` and `GenerationFailed`. It belongs to
    the event loop that first uses it.

    Arguments: the server; how many connections at once; seconds without an event until an answer is given up; seconds
    until a question is.
    Raises: `EngineUnavailable` for a key that cannot be sent.
    """

    def __init__(
        self, server: RemoteServer, max_connections: int, silence_s: float, ask_timeout_s: float = ASK_TIMEOUT_S
    ) -> None:
        key = server.key or ""
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise server.unsendable_key()
        self._server = server
        self._silence_s = silence_s
        self._ask_timeout_s = ask_timeout_s
        authorization = {"Authorization": f"Bearer {server.key}"} if server.key else {}
        self._http = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", **authorization},
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=max_connections, keepalive_expiry=4.0),  # uvicorn closes after 5 s
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def models(self) -> list[ServedModel]:
        """The models that the server has."""
        models = (await self._ask(f"{self._server.api_url}/models", _ModelList)).data
        return [msgspec.structs.replace(model, id=self._server.without_key(model.id)) for model in models]

    async def version(self) -> str | None:
        """vLLM's version; `None` where the server does not tell."""
        try:
            return self._server.plain((await self._ask(f"{self._server.url}/version", _Version)).version)
        except EngineError:
            return None

    async def chat(
        self,
        body: Mapping[str, Any],
        max_bytes: int,
        deadline_s: float | None,
        on_chunk: Callable[[Chunk], None],
    ) -> None:
        """Streams one answer; returns when it is complete. A server that is busy is asked again, `TRIES` times in all.

        Arguments: the request; how long the stream may be; `time.monotonic()` beyond which nothing is tried again; who
        takes the events.
        """
        encoded = msgspec.json.encode(body)
        for attempt in range(1, TRIES + 1):
            try:
                return await self._chat_once(encoded, max_bytes, on_chunk)
            except ServerBusy as busy:
                wait_s = busy.retry_after_s if busy.retry_after_s is not None else FIRST_WAIT_S * 2 ** (attempt - 1)
                too_late = deadline_s is not None and time.monotonic() + wait_s >= deadline_s
                if attempt == TRIES or wait_s > MOST_WAIT_S or too_late:
                    raise
            await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _chat_once(self, body: bytes, max_bytes: int, on_chunk: Callable[[Chunk], None]) -> None:
        events, finished = EventStream(max_bytes), False
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        url, now_s = f"{self._server.api_url}/chat/completions", asyncio.get_running_loop().time
        async with (
            self._translated(self._silence_s),
            asyncio.timeout(self._silence_s) as silence,
            self._http.stream("POST", url, content=body, headers=headers) as response,
        ):
            await self._check(response)
            kind = response.headers.get("content-type", "nothing of a known kind").partition(";")[0]
            if kind != "text/event-stream":
                raise self._server.unusable(self._server.plain(kind) + " in place of a stream of events")
            stream = response.aiter_raw()
            async for data in stream:
                for chunk in events.feed(data):
                    silence.reschedule(now_s() + self._silence_s)
                    if chunk.error is not None:
                        raise self._server.failure(status_of(chunk.error), msgspec.json.encode({"error": chunk.error}))
                    finished = finished or any(choice.finish_reason for choice in chunk.choices or ())
                    on_chunk(chunk)
                if events.is_done:
                    break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_BYTES_S):  # read to its end, a connection can be used again
                    async for _ in stream:
                        pass
        if not finished:
            raise self._server.lost()

    async def _ask(self, url: str, kind: type[T]) -> T:
        async with (
            self._translated(self._ask_timeout_s),
            asyncio.timeout(self._ask_timeout_s),
            self._http.stream("GET", url) as response,
        ):
            await self._check(response)
            data = await _beginning(response, MAX_ASK_BYTES)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            what = f"something else than JSON of the right form to {url.removeprefix(self._server.url)}"
            raise self._server.unusable(what) from None

    async def _check(self, response: httpx.Response) -> None:
        """Raises what an answer means that is no success."""
        if response.is_redirect:
            raise self._server.redirecting()
        if response.headers.get("content-encoding", "identity") != "identity":
            raise self._server.unusable("with a compression that nobody asked for")
        if response.is_success:
            return
        failure = self._server.failure(response.status_code, await _beginning(response, MAX_ERROR_BYTES))
        if isinstance(failure, ServerBusy):
            wait_s = retry_after_s(response.headers.get("retry-after"))
            failure = ServerBusy(f"{failure} It asks to wait {wait_s:.0f} s." if wait_s else str(failure), wait_s)
        if response.status_code == 404:
            raise NotFound(str(failure))
        raise failure

    @asynccontextmanager
    async def _translated(self, timeout_s: float) -> AsyncIterator[None]:
        """What breaks while an answer is read, as our errors."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            if "certificate" in str(error).lower():
                raise self._server.untrusted() from None
            raise self._server.unreachable() from None
        except (TimeoutError, httpx.TimeoutException):
            raise self._server.silent(timeout_s) from None
        except httpx.HTTPError:
            raise self._server.lost() from None


class NotFound(InvalidGeneration):
    """The server does not have the model, or not the address."""


async def _beginning(response: httpx.Response, max_bytes: int) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > max_bytes:
            break
    return bytes(data)
