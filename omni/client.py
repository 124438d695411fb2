"""The HTTP API of a vLLM-Omni server: one class that speaks it, and turns what goes wrong on the way into our errors.

Answers are bounded in bytes and seconds, redirects are not followed, and nothing of the environment (proxies, netrc)
changes where a request goes: `Outgoing` knows the way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from http_client.addresses import root_of
from http_client.bodies import BodyTooLong, UnreadableBody, body_of
from http_client.errors import read_error
from http_client.failures import Trouble, TrustProblem, failure_of
from http_client.loose_json import decoded
from http_client.outgoing import Outgoing
from http_client.words import plain
from omni.attempts import attempted
from omni.errors import (
    ConnectionLost,
    OmniError,
    ServerFailed,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
    UnusableAnswer,
)
from omni.failures import failure, told
from omni.image_answer import read_answer
from omni.model_list import ServedModel, first_model

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 10.0
"""For questions that a server answers at once when it is well."""
MAX_ASK_BYTES = 1_000_000
BYTES_PER_PIXEL = 12
"""A picture of random pixels with 16 bits a channel takes 8 bytes a pixel as PNG, and a third more in base64."""

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request


class Health(msgspec.Struct, frozen=True):
    """How quickly a server answers, and whether it says that it is well; some have no way to say so."""

    latency_ms: float
    is_well: bool


class Picture(msgspec.Struct, frozen=True):
    """What a server made: the encoded picture, and what it says that took in seconds and of its memory in MB."""

    data: bytes
    compute_s: float | None
    peak_memory_mb: float | None


class OmniClient:
    """One server. Every method may raise `ServerUnreachable`, `ConnectionLost`, `ServerTooSlow`, `ServerRefused`,
    `ServerFailed` or `UnusableAnswer`. It belongs to the event loop that first uses it.

    Arguments: the server's address, with `/v1` or without; seconds for one generation; the key it asks for, if it
    does; how to get there.
    """

    url_setting = "OMNI_URL"
    """The setting that has this server's address."""
    health_tool = "server_health"
    """The tool that tells what is there."""

    def __init__(
        self, url: str, timeout_s: float, api_key: str | None = None, outgoing: Outgoing | None = None
    ) -> None:
        self.url = root_of(url)
        self.timeout_s = timeout_s
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
            # A connection that was kept may break as it is used again, and then nobody knows whether the server has
            # begun. A new one costs a millisecond.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Closes all connections."""
        if "_http" in self.__dict__:
            await self._http.aclose()

    async def health(self) -> Health:
        """How the server answers when it is asked whether it is well.

        Some have no `/health`, or keep it to themselves: that says nothing about the rest.
        """
        start_s = time.monotonic()
        status, data, headers = await self._exchange("GET", "/health", ASK_TIMEOUT_S, MAX_ASK_BYTES)
        if status == 401 or status >= 500:
            raise failure(status, data, headers, self._key)
        return Health(round((time.monotonic() - start_s) * 1000, 1), 200 <= status < 300)

    async def served_model(self) -> ServedModel:
        """The model on the server; a vLLM-Omni server has one, under one or more names."""
        served = first_model(self._decoded(await self._ask("/v1/models"), object))
        if served is None:
            raise ServerRefused(f"The vLLM server at {self.url} names no model.")
        return served

    async def version(self) -> str | None:
        """The server's version; None where it does not tell."""
        try:
            answer = self._decoded(await self._ask("/version"), dict)
        except (ServerRefused, ServerFailed, UnusableAnswer):
            return None
        found = answer.get("version")
        return plain(found) if isinstance(found, str) else None

    async def generate(self, fields: dict[str, Any], n_pixels: int) -> Picture:
        """One picture from words; `n_pixels` bounds how long the answer may be."""
        return await self._generated("/v1/images/generations", n_pixels, json=fields)

    async def edit(self, fields: dict[str, Any], images: Sequence[bytes], n_pixels: int) -> Picture:
        """One picture from words and 1 to 4 pictures, given as PNG files."""
        files = [("image[]" if len(images) > 1 else "image", ("image.png", data, "image/png")) for data in images]
        form = {name: str(value) for name, value in fields.items()}
        return await self._generated("/v1/images/edits", n_pixels, data=form, files=files)

    async def _generated(self, path: str, n_pixels: int, **body: Any) -> Picture:
        max_bytes = MAX_ASK_BYTES + BYTES_PER_PIXEL * n_pixels
        data = await attempted(lambda: self._answer("POST", path, self.timeout_s, max_bytes, **body))
        try:
            found = read_answer(data)
        except ValueError:
            raise self._no_answer(data) from None
        encoded = found.data
        if found.url is not None:
            encoded = await self._fetched(found.url, max_bytes)
        if found.refusal is not None:
            raise told(found.refusal, self._key)
        if not encoded:
            said = plain(found.said, (self._key,)).rstrip(".")
            raise UnusableAnswer("The vLLM server answered without a picture" + (f": {said}." if said else "."))
        return Picture(encoded, found.compute_s, found.peak_memory_mb)

    async def _fetched(self, url: str, max_bytes: int) -> bytes:
        """A picture that the server only names: from itself alone, since any other address may be one that it should
        not make this machine ask."""
        address = httpx.URL(self.url + "/").join(url)
        own = httpx.URL(self.url)
        if is_loopback(address.host) and (address.scheme, address.port) == (own.scheme, own.port):
            address = own.copy_with(raw_path=address.raw_path)  # many know themselves by where they listen only
        if (address.scheme, address.host, address.port) != (own.scheme, own.host, own.port):
            raise UnusableAnswer(
                f"The vLLM server answered with the address of a picture on another server ({plain(address.host)}), "
                "which is not fetched. Have it answer with b64_json, or with an address of its own."
            )
        return await self._ask(str(address), max_bytes, self.timeout_s)

    async def _ask(self, path: str, max_bytes: int = MAX_ASK_BYTES, timeout_s: float = ASK_TIMEOUT_S) -> bytes:
        """The answer to a question, asked again where the connection breaks."""
        try:
            return await self._answer("GET", path, timeout_s, max_bytes)
        except ConnectionLost:
            return await self._answer("GET", path, timeout_s, max_bytes)

    async def _answer(self, method: str, path: str, timeout_s: float, max_bytes: int, **body: Any) -> bytes:
        """The body of a successful answer."""
        status, data, headers = await self._exchange(method, path, timeout_s, max_bytes, **body)
        if not 200 <= status < 300:
            raise failure(status, data, headers, self._key)
        return data

    async def _exchange(
        self, method: str, path: str, timeout_s: float, max_bytes: int, **body: Any
    ) -> tuple[int, bytes, httpx.Headers]:
        """Any answer that is no redirect: its status, its body and its headers."""
        async with self._stream(method, path, timeout_s, **body) as response:
            if response.has_redirect_location:
                raise UnusableAnswer(
                    f"The server at {self.url} redirects to another address, which is not followed. Set "
                    f"{self.url_setting} to the vLLM-Omni server's own address."
                )
            came = bytearray()
            try:
                data = await body_of(response, max_bytes, cut=not response.is_success, into=came)
            except httpx.TransportError:
                if not decoded(bytes(came))[1]:
                    raise
                data = bytes(came)  # a text of JSON that is whole needs no proper end of its connection
            except BodyTooLong:
                raise UnusableAnswer(
                    f"The vLLM server's answer is longer than {max_bytes} bytes, and was not read on."
                ) from None
            except UnreadableBody as error:
                raise UnusableAnswer(f"The vLLM server answered {error}.") from None
            return response.status_code, data, response.headers

    @asynccontextmanager
    async def _stream(self, method: str, path: str, timeout_s: float, **body: Any) -> AsyncIterator[httpx.Response]:
        """An open answer; what breaks while it is read is translated too."""
        try:
            async with asyncio.timeout(timeout_s), self._http.stream(method, path, **body) as response:
                yield response
        except (httpx.HTTPError, httpx.InvalidURL, TrustProblem, TimeoutError) as error:
            raise self._disconnected(error, method, timeout_s) from None

    def _disconnected(self, error: Exception, method: str, timeout_s: float) -> OmniError:
        """The error for a connection that was not made, or did not last."""
        through_proxy = self._outgoing.proxy_for(self.url) is not None
        found = failure_of(error, self.url, self.url_setting, "vLLM server", through_proxy)
        if found.trouble is Trouble.TIMEOUT:
            return ServerTooSlow(
                f"The vLLM server at {self.url} did not answer within {timeout_s:g} s. "
                + ("Try fewer steps or a smaller size, or raise OMNI_TIMEOUT." if method == "POST" else "Try again.")
            )
        if found.trouble is Trouble.LOST:
            return ConnectionLost(self.url, self.health_tool)
        return ServerUnreachable(self.url, self.health_tool, found.text)

    def _decoded(self, data: bytes, kind: type[T]) -> T:
        found, is_json = decoded(data)
        if not is_json or not isinstance(found, kind):
            raise self._no_answer(data)
        return found

    def _no_answer(self, data: bytes) -> UnusableAnswer:
        said = plain(read_error(data).sentence, (self._key,))
        return UnusableAnswer(
            f"The server at {self.url} answered something that a vLLM-Omni server does not"
            + (f": {said.rstrip('.')}. " if said else ". ")
            + f"Check {self.url_setting}, and with `{self.health_tool}` what is there."
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means the machine that says it: `localhost`, or "listens everywhere"."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


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
