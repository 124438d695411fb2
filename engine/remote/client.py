"""HTTP requests to an OpenAI-compatible server: its models, its version, and streamed chat completions.

Responses are limited in bytes and in seconds without an event. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from engine.errors import EngineError, EngineUnavailable, ServerBusy
from engine.remote.chunks import Chunk, is_finish_reason
from engine.remote.failures import NoListing, Refused, RemoteServer
from engine.remote.sse import EventStream
from http_client.bodies import BodyTooLong, UnreadableBody, body_of, pieces
from http_client.errors import read_error
from http_client.failures import Trouble, TrustProblem, failure_of
from http_client.loose_json import decoded
from http_client.model_list import ServedModel, served_models
from http_client.outgoing import Outgoing
from http_client.redaction import is_html, without_tags
from http_client.refusals import refusal_in

CONNECT_TIMEOUT_S = 5.0
VERSION_TIMEOUT_S = 2.0
MAX_ASK_BYTES = 4_000_000
MAX_ERROR_BYTES = 65_536
LAST_BYTES_S = 0.2
AFTER_END_S = 2.0
"""The wait for usage and `[DONE]` after the finish reason. Some servers send neither, and keep the connection open."""
AFTER_USAGE_S = 0.5
"""The wait for `[DONE]` after the usage."""
MAX_ATTEMPTS = 3
FIRST_WAIT_S = 1.0
"""Before the second attempt, where the server does not say how long to wait; twice as long before the third."""
MAX_WAIT_S = 60.0

for _name in ("httpx", "httpcore"):  # they log every request and the response headers
    logging.getLogger(_name).setLevel(logging.WARNING)


class _Reading:
    """One attempt to read a streamed completion.

    Arguments:
        on_chunk: receives the events.
        events: cuts them out of the bytes.
    """

    def __init__(self, on_chunk: Callable[[Chunk], None], events: EventStream) -> None:
        self.events = events
        self.has_choices = False
        self.has_begun = False
        """Whether text or calls were received: the request must not be sent again then."""
        self.is_finished = False
        """Whether the finish reason or the final usage was received."""
        self.left_s: float | None = None
        """How long to wait for the rest of the stream; `None` before the finish reason."""
        self._has_content = False
        self._sends_false_ends = False
        """Whether text followed a finish reason, as at servers that send one in every event."""
        self._on_chunk = on_chunk

    def take(self, chunk: Chunk) -> None:
        """Updates the state of the stream, and passes the event on."""
        for choice in chunk.choices or ():
            self.has_choices = True
            delta = choice.delta
            has_delta = delta is not None and bool(
                delta.content or delta.refusal or delta.reasoning or delta.reasoning_content or delta.tool_calls
            )
            self._has_content = self._has_content or (
                delta is not None and bool(delta.content or delta.refusal or delta.tool_calls)
            )
            is_end = choice.is_whole or is_finish_reason(choice.finish_reason)
            self.has_begun = self.has_begun or has_delta
            # Some servers send a finish reason in every event; only the last one is true.
            self._sends_false_ends = self._sends_false_ends or (has_delta and self.is_finished)
            self.is_finished = is_end or (self.is_finished and not has_delta)
            if not self.is_finished or (has_delta and (self._sends_false_ends or not self._has_content)):
                self.left_s = None
            elif self.left_s is None:
                self.left_s = AFTER_END_S
        if chunk.usage is not None and not chunk.choices and self.has_begun:
            self.left_s = AFTER_USAGE_S if self.left_s is not None else None
            self.is_finished = True
        self._on_chunk(chunk)


class OpenAIClient:
    """One server. It belongs to the event loop that first uses it.

    Arguments:
        server: its address, key and time limits.
        outgoing: makes the HTTP client.
        max_connections: how many connections may be open at once.

    Raises: `EngineUnavailable` for a key that cannot be sent, or certificates that cannot be read. Every method may
    raise `EngineUnavailable`, `InvalidGeneration` and `GenerationFailed`.
    """

    def __init__(self, server: RemoteServer, outgoing: Outgoing, max_connections: int) -> None:
        key = server.key or ""
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise server.unsendable_key()
        self._server = server
        self._is_proxied = outgoing.proxy_for(server.url) is not None
        authorization = {"Authorization": f"Bearer {server.key}"} if server.key else {}
        try:
            self._http = outgoing.client(
                server.url,
                headers={"Accept-Encoding": "identity", **authorization},
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=max_connections, keepalive_expiry=4.0),  # uvicorn closes after 5 s
            )
        except TrustProblem as error:
            raise EngineUnavailable(str(error)) from None

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def models(self) -> list[ServedModel]:
        """The models of the server; raises `NoListing` where the response is not a list of models."""
        url = f"{self._server.api_url}/models"
        response = await self._ask(url)
        error = refusal_in(response, None, (self._server.key,)) if response else None
        if error is not None:
            raise NoListing(str(self._server.failure(error)))
        models = served_models(response)
        if models is None:
            raise self._unexpected(url)
        return [msgspec.structs.replace(model, id=self._server.without_key(model.id)) for model in models]

    async def version(self) -> str | None:
        """vLLM's version; `None` where the server does not report one."""
        try:
            async with asyncio.timeout(VERSION_TIMEOUT_S):
                response = await self._ask(f"{self._server.url}/version")
        except (EngineError, TimeoutError):
            return None
        version = response.get("version") if isinstance(response, dict) else None
        return self._server.plain(version) if isinstance(version, str) else None

    async def chat(
        self, body: Mapping[str, Any], max_bytes: int, deadline_s: float | None, on_chunk: Callable[[Chunk], None]
    ) -> int:
        """Streams one completion; returns the number of events that could not be read.

        A busy server gets the request up to `MAX_ATTEMPTS` times, unless text or calls were received.

        Arguments:
            body: the request.
            max_bytes: the maximum length of the stream.
            deadline_s: `time.monotonic()` after which there is no further attempt.
            on_chunk: receives the events.

        Raises: `Refused`, with the refusal where nothing was received before it.
        """
        encoded = msgspec.json.encode(body)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            reading = _Reading(on_chunk, EventStream(max_bytes))
            try:
                await self._chat_once(encoded, reading)
                return reading.events.n_unreadable
            except ServerBusy as busy:
                wait_s = busy.retry_after_s if busy.retry_after_s is not None else FIRST_WAIT_S * 2 ** (attempt - 1)
                too_late = deadline_s is not None and time.monotonic() + wait_s >= deadline_s
                if reading.has_begun or attempt == MAX_ATTEMPTS or wait_s > MAX_WAIT_S or too_late:
                    raise
            except Refused as refused:
                if reading.has_begun:
                    refused.refusal = None  # the request must not be sent again
                raise
            await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _chat_once(self, body: bytes, reading: _Reading) -> None:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        url, now_s = f"{self._server.api_url}/chat/completions", asyncio.get_running_loop().time
        async with (
            self._translated(self._server.silence_s, lambda: reading.is_finished),
            asyncio.timeout(self._server.silence_s) as silence,
            self._http.stream("POST", url, content=body, headers=headers) as response,
        ):
            await self._check(response)
            stream, previous_s = pieces(response), None
            try:
                async for data in stream:
                    for chunk in reading.events.feed(data):
                        self._take(chunk, reading)
                        left_s = (
                            self._server.silence_s
                            if reading.left_s is None
                            else min(self._server.silence_s, reading.left_s)
                        )
                        if reading.left_s is None or reading.left_s != previous_s:  # keep-alives do not extend it
                            silence.reschedule(now_s() + left_s)
                        previous_s = reading.left_s
                    if reading.events.is_done:
                        break
            except httpx.HTTPError:  # the last line may be complete but for its line break
                self._take_rest(reading)
                raise
            except UnreadableBody:
                if reading.has_begun and not reading.is_finished:
                    raise self._server.lost() from None
                if not reading.is_finished:
                    raise
            self._take_rest(reading)
            if reading.events.is_done:
                with contextlib.suppress(TimeoutError, httpx.HTTPError, UnreadableBody):
                    async with asyncio.timeout(LAST_BYTES_S):  # a connection that was read to its end can be reused
                        async for _ in stream:
                            pass
        if not reading.is_finished:
            self._check_end(reading, response)

    def _take_rest(self, reading: _Reading) -> None:
        for chunk in reading.events.end():
            self._take(chunk, reading)

    def _take(self, chunk: Chunk, reading: _Reading) -> None:
        if chunk.error is None:
            reading.take(chunk)
        elif not reading.is_finished:  # an error after the finish reason does not matter
            status = read_error(chunk.error).status or 200
            raise self._server.failure(self._server.refusal(status, None, chunk.error))

    def _check_end(self, reading: _Reading, response: httpx.Response) -> None:
        """Raises where the stream is not a whole completion."""
        events = reading.events
        if not reading.has_choices:
            raise self._nothing(reading, response)
        if events.is_done or (_is_framed(response) and not events.n_unreadable):
            return
        raise self._server.unreadable() if events.n_unreadable else self._server.lost()

    def _nothing(self, reading: _Reading, response: httpx.Response) -> EngineError:
        """The error for a response without a completion."""
        server, events, junk = self._server, reading.events, reading.events.junk
        value, is_json = decoded(junk) if junk else (None, False)
        error = refusal_in(value, response.headers, (server.key,)) if isinstance(value, dict | list) else None
        if error is not None:
            return server.failure(error)
        if isinstance(value, dict):
            return server.unreadable() if value.get("choices") else server.empty()
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        is_foreign = kind not in ("", "text/event-stream", "application/json") or is_html(_text(junk)) or bool(value)
        if junk and is_foreign and kind != "text/event-stream":
            text = server.plain(without_tags(_text(junk)))
            what = f"{server.plain(kind) or 'something'} instead of a stream of events"
            return server.unusable(f"{what} (“{text[:100]}”)" if text else what)
        if (junk and not is_json) or events.n_unreadable:
            return server.unreadable("" if is_json else _text(junk))
        if events.is_done:
            return server.nothing()
        return server.empty() if _is_framed(response) else server.lost()

    async def _ask(self, url: str) -> Any:
        """The decoded response to a GET request. Raises `NoListing` for an error status and for a response that is not
        JSON, and what `_translated` raises."""
        async with (
            self._translated(self._server.ask_timeout_s),
            asyncio.timeout(self._server.ask_timeout_s),
            self._http.stream("GET", url) as response,
        ):
            try:
                await self._check(response)
            except EngineError as error:
                raise NoListing(str(error), is_absent=response.status_code in _ABSENT) from None
            try:
                data = await body_of(response, MAX_ASK_BYTES)
            except BodyTooLong:
                data = b""
        value, is_json = decoded(data.strip())
        if not is_json:
            raise self._unexpected(url)
        return value

    def _unexpected(self, url: str) -> NoListing:
        what = f"to {url.removeprefix(self._server.url)} with something that is not the expected JSON"
        return NoListing(str(self._server.unusable(what)))

    async def _check(self, response: httpx.Response) -> None:
        """Raises the error for a response without success."""
        if response.is_redirect:
            raise self._server.redirecting()
        if response.is_success:
            return
        try:
            data = await body_of(response, MAX_ERROR_BYTES, cut=True)
        except UnreadableBody:
            data = b""
        raise self._server.failure(self._server.refusal(response.status_code, response.headers, data))

    @asynccontextmanager
    async def _translated(self, timeout_s: float, is_complete: Callable[[], bool] = bool) -> AsyncIterator[None]:
        """Turns errors of the connection into ours; ignores them where the completion is complete."""
        try:
            yield
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            if is_complete():
                return
            server = self._server
            failure = failure_of(error, server.url, server.address_setting, "model server", self._is_proxied)
            if failure.trouble is Trouble.TIMEOUT:
                raise server.silent(timeout_s) from None
            if failure.trouble is Trouble.LOST:
                raise server.lost() from None
            raise (EngineUnavailable(failure.text) if failure.text else server.unreachable()) from None
        except UnreadableBody as error:
            raise self._server.unusable(str(error)) from None


_ABSENT = (404, 405, 501)
"""The statuses of servers without a list of models."""


def _is_framed(response: httpx.Response) -> bool:
    """Whether HTTP marks the end of the body; otherwise the connection may have been lost."""
    return "content-length" in response.headers or "transfer-encoding" in response.headers


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
