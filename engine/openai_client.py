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
from typing import Any

import httpx
import msgspec

from engine.errors import EngineError, EngineUnavailable, ServerBusy
from engine.event_stream import Chunk, EventStream, has_word
from engine.model_list import ServedModel, served_models
from engine.remote_failures import Broken, Declined, NoListing, NotFound, RemoteServer
from http_client.bodies import BodyTooLong, UnreadableBody, body_of, pieces
from http_client.errors import read_error
from http_client.failures import Trouble, TrustProblem, failure_of
from http_client.loose_json import decoded
from http_client.outgoing import Outgoing
from http_client.refusals import refusal_in
from http_client.words import is_html, without_tags

CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 10.0
"""For questions that a server answers at once when it is well."""
VERSION_TIMEOUT_S = 2.0
MAX_ASK_BYTES = 4_000_000
MAX_ERROR_BYTES = 65_536
LAST_BYTES_S = 0.2
AFTER_END_S = 2.0
"""For what follows the last word of an answer: its counts, and that there is no more. Some servers send neither, and
keep the connection open."""
AFTER_COUNTS_S = 0.5
"""For what follows its counts too."""
TRIES = 3
FIRST_WAIT_S = 1.0
"""Before the second try where the server does not say how long to wait; twice as much before the third."""
MOST_WAIT_S = 60.0

for _name in ("httpx", "httpcore"):  # they tell of every request, and of the headers that come back
    logging.getLogger(_name).setLevel(logging.WARNING)


class _Reading:
    """One try at reading an answer. Arguments: who takes the events; what cuts them out of the bytes."""

    def __init__(self, on_chunk: Callable[[Chunk], None], events: EventStream) -> None:
        self.events = events
        self.has_choices = False
        self.has_begun = False
        """Whether something of the answer came, after which the request must not be sent again."""
        self.is_finished = False
        """Whether the server said why the answer ended, or counted its tokens as it does at the end."""
        self.left_s: float | None = None
        """How long what follows an answer may take, from the last event on; `None` while the answer goes on."""
        self._has_answer = False
        self._is_wrong_of_ends = False
        """Whether the server has named an end that was none, as those do that name one in every event."""
        self._on_chunk = on_chunk

    def take(self, chunk: Chunk) -> None:
        """Notes what an event means for the reading, and passes it on."""
        for choice in chunk.choices or ():
            self.has_choices = True
            delta = choice.delta
            said = delta is not None and bool(
                delta.content or delta.refusal or delta.reasoning or delta.reasoning_content or delta.tool_calls
            )
            self._has_answer = self._has_answer or (
                delta is not None and bool(delta.content or delta.refusal or delta.tool_calls)
            )
            is_end = choice.is_whole or has_word(choice.finish_reason)
            self.has_begun = self.has_begun or said
            # Some servers name an end in every event: one that more text follows was none.
            self._is_wrong_of_ends = self._is_wrong_of_ends or (said and self.is_finished)
            self.is_finished = is_end or (self.is_finished and not said)
            if not self.is_finished or (said and (self._is_wrong_of_ends or not self._has_answer)):
                self.left_s = None
            elif self.left_s is None:
                self.left_s = AFTER_END_S
        if chunk.usage is not None and not chunk.choices and self.has_begun:
            self.left_s = AFTER_COUNTS_S if self.left_s is not None else None
            self.is_finished = True
        self._on_chunk(chunk)


class OpenAIClient:
    """One server. Every method may raise `EngineUnavailable`, `InvalidGeneration` and `GenerationFailed`. It belongs to
    the event loop that first uses it.

    Arguments: the server; the way to it; how many connections at once; seconds without an event until an answer is
    given up; seconds until a question is.
    Raises: `EngineUnavailable` for a key that cannot be sent, or certificates that cannot be read.
    """

    def __init__(
        self,
        server: RemoteServer,
        outgoing: Outgoing,
        max_connections: int,
        silence_s: float,
        ask_timeout_s: float = ASK_TIMEOUT_S,
    ) -> None:
        key = server.key or ""
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise server.unsendable_key()
        self._server = server
        self._silence_s = silence_s
        self._ask_timeout_s = ask_timeout_s
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
        """The models that the server has.

        Raises: `NoListing` where the server answers, but with no list.
        """
        url = f"{self._server.api_url}/models"
        answer = await self._ask(url)
        said = refusal_in(answer, None, (self._server.key,)) if answer else None
        if said is not None:
            raise NoListing(str(self._server.failure(said)))
        found = served_models(answer)
        if found is None:
            what = f"something else than JSON of the right form to {url.removeprefix(self._server.url)}"
            raise NoListing(str(self._server.unusable(what)))
        return [msgspec.structs.replace(model, id=self._server.without_key(model.id)) for model in found]

    async def version(self) -> str | None:
        """vLLM's version; `None` where the server does not tell."""
        try:
            async with asyncio.timeout(VERSION_TIMEOUT_S):
                answer = await self._ask(f"{self._server.url}/version")
        except (EngineError, TimeoutError):
            return None
        found = answer.get("version") if isinstance(answer, dict) else None
        return self._server.plain(found) if isinstance(found, str) else None

    async def chat(
        self,
        body: Mapping[str, Any],
        max_bytes: int,
        deadline_s: float | None,
        on_chunk: Callable[[Chunk], None],
    ) -> int:
        """Streams one answer; returns when it is complete, with the number of events that could not be read. A server
        that is busy is asked again, `TRIES` times in all, unless something of an answer has come.

        Arguments: the request; how long the stream may be; `time.monotonic()` beyond which nothing is tried again; who
        takes the events.
        Raises: `Declined`, `NotFound` and `Broken` with the refusal, where it came before anything of an answer.
        """
        encoded = msgspec.json.encode(body)
        for attempt in range(1, TRIES + 1):
            reading = _Reading(on_chunk, EventStream(max_bytes))
            try:
                await self._chat_once(encoded, reading)
                return reading.events.n_unreadable
            except ServerBusy as busy:
                wait_s = busy.retry_after_s if busy.retry_after_s is not None else FIRST_WAIT_S * 2 ** (attempt - 1)
                too_late = deadline_s is not None and time.monotonic() + wait_s >= deadline_s
                if reading.has_begun or attempt == TRIES or wait_s > MOST_WAIT_S or too_late:
                    raise
            except (Broken, Declined, NotFound) as refused:
                if reading.has_begun:
                    refused.refusal = None  # nothing is tried again then
                raise
            await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _chat_once(self, body: bytes, reading: _Reading) -> None:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        url, now_s = f"{self._server.api_url}/chat/completions", asyncio.get_running_loop().time
        async with (
            self._translated(self._silence_s, lambda: reading.is_finished),
            asyncio.timeout(self._silence_s) as silence,
            self._http.stream("POST", url, content=body, headers=headers) as response,
        ):
            await self._check(response)
            stream, told_s = pieces(response), None
            try:
                async for data in stream:
                    for chunk in reading.events.feed(data):
                        self._take(chunk, reading)
                        left_s = self._silence_s if reading.left_s is None else min(self._silence_s, reading.left_s)
                        if reading.left_s is None or reading.left_s != told_s:  # no keep-alive makes it longer
                            silence.reschedule(now_s() + left_s)
                        told_s = reading.left_s
                    if reading.events.is_done:
                        break
            except httpx.HTTPError:  # the last line may have come, all but its end
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
                    async with asyncio.timeout(LAST_BYTES_S):  # read to its end, a connection can be used again
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
        elif not reading.is_finished:  # what fails behind the end of an answer is not part of it
            status = read_error(chunk.error).status or 200
            raise self._server.failure(self._server.refusal(status, None, chunk.error))

    def _check_end(self, reading: _Reading, response: httpx.Response) -> None:
        """Raises where what came cannot be a whole answer."""
        events = reading.events
        if not reading.has_choices:
            raise self._nothing(reading, response)
        if events.is_done or (_is_framed(response) and not events.n_unreadable):
            return
        raise self._server.unreadable() if events.n_unreadable else self._server.lost()

    def _nothing(self, reading: _Reading, response: httpx.Response) -> EngineError:
        """Why there is no answer in what came."""
        server, events, junk = self._server, reading.events, reading.events.junk
        answer, is_json = decoded(junk) if junk else (None, False)
        said = refusal_in(answer, response.headers, (server.key,)) if isinstance(answer, dict | list) else None
        if said is not None:
            return server.failure(said)
        if isinstance(answer, dict):
            return server.unreadable() if answer.get("choices") else server.empty()
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        is_foreign = kind not in ("", "text/event-stream", "application/json") or is_html(_text(junk)) or bool(answer)
        if junk and is_foreign and kind != "text/event-stream":
            told = server.plain(without_tags(_text(junk)))
            said_so = f"{server.plain(kind) or 'something'} in place of a stream of events"
            return server.unusable(f"{said_so} (“{told[:100]}”)" if told else said_so)
        if (junk and not is_json) or events.n_unreadable:
            return server.unreadable("" if is_json else _text(junk))
        if events.is_done:
            return server.nothing()
        return server.empty() if _is_framed(response) else server.lost()

    async def _ask(self, url: str) -> Any:
        """The decoded answer to a question.

        Raises: `NoListing` for one that is no JSON, or a refusal; what `_translated` raises.
        """
        async with (
            self._translated(self._ask_timeout_s),
            asyncio.timeout(self._ask_timeout_s),
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
        answer, is_json = decoded(data.removeprefix(b"\xef\xbb\xbf").strip())
        if not is_json:
            what = f"something else than JSON of the right form to {url.removeprefix(self._server.url)}"
            raise NoListing(str(self._server.unusable(what)))
        return answer

    async def _check(self, response: httpx.Response) -> None:
        """Raises what an answer means that is no success."""
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
        """What breaks while an answer is read, as our errors, and as nothing where the answer is complete."""
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
"""What servers answer that tell of no models at all."""


def _is_framed(response: httpx.Response) -> bool:
    """Whether the end of the body was told; without that it may be a connection that broke."""
    return "content-length" in response.headers or "transfer-encoding" in response.headers


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
