"""The HTTP API of a vLLM-Omni server.

Responses are limited in bytes and seconds. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, TypeVar

import httpx
import msgspec

from http_client.addresses import is_loopback, root_of
from http_client.bodies import BodyTooLong, UnreadableBody, body_of
from http_client.errors import read_error
from http_client.failures import Trouble, TrustProblem, failure_of
from http_client.loose_json import decoded
from http_client.model_list import ServedModel, first_model
from http_client.outgoing import Outgoing
from http_client.redaction import plain
from omni.errors import (
    ConnectionLost,
    InvalidResponse,
    OmniError,
    ServerFailed,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
)
from omni.failures import error_of, failure
from omni.image_response import read_image
from omni.turns import AtOnce, Turns

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 10.0
"""For requests that a healthy server answers at once."""
MAX_ASK_BYTES = 1_000_000
UNKNOWN = "unknown"
"""The name of a model that its server does not report."""
UNREPORTED_MODEL = (ConnectionLost, ServerRefused, ServerFailed, ServerTooSlow, InvalidResponse)
"""The errors of `served_model` at a server that may still be able to generate."""
BYTES_PER_PIXEL = 12
"""An image of random pixels with 16 bits a channel takes 8 bytes a pixel as PNG, and a third more in base64."""

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request


PAUSES_S = (0.5, 1.0)
"""The wait before each further attempt, where the server does not say how long."""
MAX_PAUSE_S = 20.0
"""Where the server asks for a longer wait, its error is raised."""


class Health(msgspec.Struct, frozen=True):
    """How quickly a server responds, and whether its `/health` reports success; some servers have none."""

    latency_ms: float
    is_well: bool


class GeneratedImage(msgspec.Struct, frozen=True):
    """An encoded image, with the generation time and peak memory that the server reports."""

    data: bytes
    compute_s: float | None
    peak_memory_mb: float | None


class OmniClient:
    """One server. It belongs to the event loop that first uses it.

    Every method may raise `ServerUnreachable`, `ConnectionLost`, `ServerTooSlow`, `ServerRefused`, `ServerFailed` or
    `InvalidResponse`.

    Arguments:
        url: the address, with or without `/v1`.
        timeout_s: the time limit of one generation.
        api_key: the server's key, `None` where it has none.
        outgoing: makes the HTTP client.
        turns: says when a generation may begin.
    """

    url_setting = "OMNI_URL"
    """The setting with the server's address."""
    health_tool = "server_health"
    """The tool that shows what runs at the address."""
    too_slow_advice = "Try fewer steps or a smaller size, or raise OMNI_TIMEOUT."
    """What to do where a generation takes too long."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        api_key: str | None = None,
        outgoing: Outgoing | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.url = root_of(url)
        self.timeout_s = timeout_s
        self.turns = turns if turns is not None else AtOnce()
        self._key = api_key
        self._outgoing = outgoing if outgoing is not None else Outgoing()

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        """Raises: `TrustProblem`."""
        key = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return self._outgoing.client(
            self.url,
            base_url=self.url,
            headers={"Accept-Encoding": "identity", **key},
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            # A reused connection may break without saying whether the server has begun. A new one costs a millisecond.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Closes all connections."""
        if "_http" in self.__dict__:
            await self._http.aclose()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits until a generation may begin; it ends with the context."""
        await self.turns.begin(self.url)
        try:
            yield
        finally:
            self.turns.end(self.url)

    async def health(self) -> Health:
        """The response of `/health`. A 4xx status does not raise: some servers do not offer it."""
        start_s = time.monotonic()
        status, data, headers = await self._exchange("GET", "/health", ASK_TIMEOUT_S, MAX_ASK_BYTES)
        if status == 401 or status >= 500:
            raise failure(status, data, headers, self._key)
        return Health(round((time.monotonic() - start_s) * 1000, 1), 200 <= status < 300)

    async def served_model(self) -> ServedModel:
        """The served model; a vLLM-Omni server has one, under one or more names."""
        served = first_model(self._decoded(await self._ask("/v1/models"), object))
        if served is None:
            raise ServerRefused(f"The vLLM server at {self.url} names no model.")
        return served

    async def version(self) -> str | None:
        """The server's version; `None` where it reports none."""
        try:
            response = self._decoded(await self._ask("/version"), dict)
        except (ServerRefused, ServerFailed, InvalidResponse):
            return None
        version = response.get("version")
        return plain(version) if isinstance(version, str) else None

    async def generate(self, fields: dict[str, Any], n_pixels: int) -> GeneratedImage:
        """One image from a prompt; `n_pixels` limits the size of the response."""
        return await self._generated("/v1/images/generations", n_pixels, json=fields)

    async def edit(
        self, fields: dict[str, Any], images: Sequence[bytes], n_pixels: int, mask: bytes | None = None
    ) -> GeneratedImage:
        """One image from a prompt and 1 to 4 PNG files.

        With a mask, only the first image is edited, where the mask is white; a second one shows what to put there.
        """
        if mask is None:
            parts = [("image[]" if len(images) > 1 else "image", data) for data in images]
        else:
            # As another input image, the second one would not fit the mask's latents.
            parts = [("image", images[0]), ("mask_image", mask), *(("reference_image", data) for data in images[1:])]
        files = [(name, ("image.png", data, "image/png")) for name, data in parts]
        form = {name: _form_text(value) for name, value in fields.items()}
        return await self._generated("/v1/images/edits", n_pixels, data=form, files=files)

    async def _generated(self, path: str, n_pixels: int, **body: Any) -> GeneratedImage:
        max_bytes = MAX_ASK_BYTES + BYTES_PER_PIXEL * n_pixels
        async with self.turn():
            data = await attempted(lambda: self._answer("POST", path, self.timeout_s, max_bytes, **body))
        try:
            found = read_image(data)
        except ValueError:
            raise self._unexpected(data) from None
        encoded = found.data if found.url is None else await self._download(found.url, max_bytes)
        if found.refusal is not None:
            raise error_of(found.refusal, self._key)
        if not encoded:
            said = plain(found.said, (self._key,)).rstrip(".")
            raise InvalidResponse("The response of the vLLM server has no image" + (f": {said}." if said else "."))
        return GeneratedImage(encoded, found.compute_s, found.peak_memory_mb)

    async def _download(self, url: str, max_bytes: int) -> bytes:
        """Downloads an image from a URL in the response, from the same server only: any other address may be internal
        to this machine's network."""
        address = httpx.URL(self.url + "/").join(url)
        own = httpx.URL(self.url)
        if is_loopback(address.host) and (address.scheme, address.port) == (own.scheme, own.port):
            address = own.copy_with(raw_path=address.raw_path)  # many servers only know the address that they listen on
        if (address.scheme, address.host, address.port) != (own.scheme, own.host, own.port):
            raise InvalidResponse(
                f"The vLLM server responded with the URL of an image on another server ({plain(address.host)}), which "
                "is not downloaded. Configure it to return b64_json, or a URL of its own."
            )
        return await self._ask(str(address), max_bytes, self.timeout_s)

    async def _ask(self, path: str, max_bytes: int = MAX_ASK_BYTES, timeout_s: float = ASK_TIMEOUT_S) -> bytes:
        """The response to a GET request, repeated once where the connection breaks."""
        try:
            return await self._answer("GET", path, timeout_s, max_bytes)
        except ConnectionLost:
            return await self._answer("GET", path, timeout_s, max_bytes)

    async def _answer(self, method: str, path: str, timeout_s: float, max_bytes: int, **body: Any) -> bytes:
        """The body of a successful response."""
        status, data, headers = await self._exchange(method, path, timeout_s, max_bytes, **body)
        if not 200 <= status < 300:
            raise failure(status, data, headers, self._key)
        return data

    async def _exchange(
        self, method: str, path: str, timeout_s: float, max_bytes: int, **body: Any
    ) -> tuple[int, bytes, httpx.Headers]:
        """The status, body and headers of a response that is not a redirect."""
        async with self._stream(method, path, timeout_s, **body) as response:
            if response.has_redirect_location:
                raise InvalidResponse(
                    f"The server at {self.url} redirects to another address, which is not followed. Set "
                    f"{self.url_setting} to the vLLM-Omni server's own address."
                )
            received = bytearray()
            try:
                data = await body_of(response, max_bytes, cut=not response.is_success, into=received)
            except httpx.TransportError:
                if not decoded(bytes(received))[1]:
                    raise
                data = bytes(received)  # complete JSON does not need a regular end of the connection
            except BodyTooLong:
                raise InvalidResponse(
                    f"The vLLM server's response is longer than {max_bytes} bytes; the rest was not read."
                ) from None
            except UnreadableBody as error:
                raise InvalidResponse(f"The vLLM server answered {error}.") from None
            return response.status_code, data, response.headers

    @asynccontextmanager
    async def _stream(self, method: str, path: str, timeout_s: float, **body: Any) -> AsyncIterator[httpx.Response]:
        """An open response; also translates errors while it is read."""
        try:
            async with asyncio.timeout(timeout_s), self._http.stream(method, path, **body) as response:
                yield response
        except (httpx.HTTPError, httpx.InvalidURL, TrustProblem, TimeoutError) as error:
            raise self._disconnected(error, method, timeout_s) from None

    def _disconnected(self, error: Exception, method: str, timeout_s: float) -> OmniError:
        """The error for a failed or lost connection."""
        through_proxy = self._outgoing.proxy_for(self.url) is not None
        found = failure_of(error, self.url, self.url_setting, "vLLM server", through_proxy)
        if found.trouble is Trouble.TIMEOUT:
            return ServerTooSlow(
                f"The vLLM server at {self.url} did not respond within {timeout_s:g} s. "
                + (self.too_slow_advice if method == "POST" else "Try again.")
            )
        if found.trouble is Trouble.LOST:
            return ConnectionLost(self.url, self.health_tool)
        return ServerUnreachable(self.url, self.health_tool, found.text)

    def _decoded(self, data: bytes, kind: type[T]) -> T:
        found, is_json = decoded(data)
        if not is_json or not isinstance(found, kind):
            raise self._unexpected(data)
        return found

    def _unexpected(self, data: bytes) -> InvalidResponse:
        said = plain(read_error(data).sentence, (self._key,))
        return InvalidResponse(
            f"The server at {self.url} did not respond as a vLLM-Omni server does"
            + (f": {said.rstrip('.')}. " if said else ". ")
            + f"Check {self.url_setting}, and what runs there with `{self.health_tool}`."
        )


def _form_text(value: Any) -> str:
    """A field of a form: objects are JSON."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)


async def attempted(send: Callable[[], Awaitable[T]]) -> T:
    """The result of `send`, with up to two retries after errors that are `not_begun`; raises the last error.

    After a gateway's timeout or a lost connection the server may still be generating: a retry would do the work twice.
    """
    for pause_s in PAUSES_S:
        try:
            return await send()
        except OmniError as error:
            if not error.not_begun or (error.retry_after_s or 0.0) > MAX_PAUSE_S:
                raise
            await asyncio.sleep(max(pause_s, error.retry_after_s or 0.0))
    return await send()
