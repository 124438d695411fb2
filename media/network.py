"""Downloads that cannot be turned against this machine's own network.

`fetch` opens connections through `_GuardedBackend` only: it resolves the host, checks every address, and connects to
an address that it checked, so a name that resolves differently a moment later changes nothing. Redirects are followed
by hand and start at the first check again. Proxies, cookies and credentials of the environment are not used.
"""

from __future__ import annotations

import functools
import queue
import socket
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from media.addresses import WebAddress, is_public, parse_url
from media.call_limits import NO_LIMITS, CallLimits
from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable, megabytes, shown
from media.kinds import PICTURE, MediaKind
from settings import SERVER_NAME, SERVER_VERSION

if TYPE_CHECKING:
    import ssl

    from httpcore import NetworkBackend, NetworkStream
else:
    # httpcore takes 0.1 s to import, and most calls download nothing.
    NetworkBackend = NetworkStream = object

MAX_REDIRECTS = 5
LOOK_S = 0.1
"""How often waiting asks whether the call was cancelled."""
_REDIRECTS = (301, 302, 303, 307, 308)
_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32
_HEADERS = {
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": f"{SERVER_NAME}/{SERVER_VERSION}",
}


TlsContext = Callable[[], "ssl.SSLContext"]
"""Makes what a connection over https begins with; may raise a sentence for the caller."""


def fetch(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    allowed_hosts: Collection[str] = (),
    kind: MediaKind = PICTURE,
    tls_context: TlsContext | None = None,
    limits: CallLimits = NO_LIMITS,
) -> bytes:
    """Downloads an http or https URL.

    `timeout_s` bounds everything together: names, connections, redirects, the body. `max_bytes` bounds the body, also
    after decompression. `allowed_hosts` ("host" or "host:port", in ASCII) may have addresses that are not public.
    `tls_context` says which certificates are trusted; left out, those of the well-known authorities. `limits` end a
    download before it is done, and close its connection; one that is still being opened ends by its own limit.

    Raises `MediaForbidden`, `MediaNotFound`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """
    deadline = _Deadline(timeout_s, limits)
    address = parse_url(url)
    for _ in range(MAX_REDIRECTS + 1):
        answer = _get(address, max_bytes, deadline, allowed_hosts, kind, tls_context or _tls_context)
        if isinstance(answer, bytes):
            return answer
        address = answer
    raise MediaForbidden(f"The URL redirects more than {MAX_REDIRECTS} times, last to {shown(address.host)}.")


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, best first; raises `OSError` when it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Deadline:
    """A moment in the future that all waiting counts against, and the limits of the call that waits."""

    def __init__(self, timeout_s: float, limits: CallLimits) -> None:
        self.timeout_s = timeout_s
        self.limits = limits
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left; raises `TimeoutError` when there are none, and `MediaCancelled` when the call has ended."""
        self.limits.check()
        remaining = self.limits.left_s(self._end - time.monotonic())
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def look_s(self) -> float:
        """Seconds until waiting has to ask again; raises as `remaining_s` does."""
        return min(LOOK_S, self.remaining_s())


def _get(
    address: WebAddress,
    max_bytes: int,
    deadline: _Deadline,
    allowed_hosts: Collection[str],
    kind: MediaKind,
    tls_context: TlsContext,
) -> bytes | WebAddress:
    """Makes one request; returns the body, or the address that a redirect leads to."""
    import httpcore

    host = shown(address.host)
    backend = _GuardedBackend(address, deadline, allowed_hosts)
    url = httpcore.URL(scheme=address.scheme, host=address.host, port=address.port, target=address.target)
    try:
        context = tls_context() if address.scheme == "https" else None
    except Exception as error:
        raise MediaUnreadable(str(error)) from None
    headers = [("Host", address.host_header), ("Accept", kind.accept), *_HEADERS.items()]
    try:
        with (
            httpcore.ConnectionPool(ssl_context=context, network_backend=backend) as pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            fields = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in fields:
                return address.follow(fields[b"location"].decode("utf-8", "replace"))
            _check_status(response.status, host, kind)
            return _read_body(fields, response.iter_stream(), max_bytes, host, kind)
    except MediaError:
        raise
    except (TimeoutError, httpcore.TimeoutException):
        deadline.limits.check()
        raise MediaUnreadable(
            f"The host {host} did not deliver the {kind.noun} within {deadline.timeout_s:g} s ({kind.timeout_setting})."
        ) from None
    except (httpcore.ConnectError, OSError) as error:
        raise MediaNotFound(_not_reached(error, host)) from None
    except Exception as error:
        raise MediaUnreadable(f"The host {host} broke off before the {kind.noun} was complete.") from error


def _not_reached(error: BaseException, host: str) -> str:
    """Why there is no connection: nobody vouches for the certificate, or nobody answers."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The certificate of the host {host} cannot be verified, so nothing was fetched. If this network has "
                "an authority of its own, set VLLM_CA_FILE (or SSL_CERT_FILE) to a file with its certificate."
            )
        if isinstance(cause, ssl.SSLError):
            return f"The host {host} does not speak https, or not as this machine does."
        cause = cause.__cause__ or cause.__context__
    return f"The host {host} cannot be reached."


def _check_status(status: int, host: str, kind: MediaKind) -> None:
    if status in (404, 410):
        raise MediaNotFound(f"The host {host} has no such {kind.noun} (HTTP status {status}).")
    if status != 200:
        raise MediaUnreadable(f"The host {host} did not deliver the {kind.noun} (HTTP status {status}).")


def _read_body(
    fields: dict[bytes, bytes], chunks: Iterable[bytes], max_bytes: int, host: str, kind: MediaKind
) -> bytes:
    too_large = MediaTooLarge(
        f"The {kind.noun} at {host} is larger than the {megabytes(max_bytes)} that {kind.max_bytes_setting} allows."
    )
    length = fields.get(b"content-length", b"")
    if length.isdigit() and (len(length) > 18 or int(length) > max_bytes):
        raise too_large
    encoding = fields.get(b"content-encoding", b"identity").strip().lower()
    if encoding in (b"gzip", b"x-gzip", b"deflate"):
        chunks = _decompress(chunks, max_bytes, host)
    elif encoding not in (b"", b"identity"):
        raise MediaUnreadable(f"The host {host} compressed the {kind.noun} in a way that is not read.")
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _decompress(chunks: Iterable[bytes], max_bytes: int, host: str) -> Iterator[bytes]:
    """Undoes a compression that was not asked for, at most one byte further than `max_bytes`."""
    decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
    left = max_bytes + 1
    try:
        for chunk in chunks:
            plain = decompressor.decompress(chunk, left)
            left -= len(plain)
            yield plain
            if left <= 0 or decompressor.eof:
                return
    except zlib.error:
        raise MediaUnreadable(f"The host {host} sent damaged data.") from None


class _GuardedBackend(NetworkBackend):
    """Opens the connections of one request to addresses that it has checked."""

    def __init__(self, address: WebAddress, deadline: _Deadline, allowed_hosts: Collection[str]) -> None:
        self._address = address
        self._deadline = deadline
        self._allowed_hosts = allowed_hosts

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NetworkStream:
        """Connects to the first checked address that answers."""
        import httpcore

        addresses = self._checked_addresses(host, port)
        for number, ip in enumerate(addresses):
            # One address that swallows packets must not use up the time of the others.
            share_s = self._deadline.remaining_s() / (len(addresses) - number)
            try:
                stream = httpcore.SyncBackend().connect_tcp(ip, port, share_s, None, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses) - 1:
                    raise
            else:
                return _TimedStream(stream, self._deadline)
        raise httpcore.ConnectError

    def _checked_addresses(self, host: str, port: int) -> list[str]:
        addresses = self._resolve_in_time(host, port)
        # One private address among public ones is refused as well: it is how rebinding names look.
        if not self._address.is_one_of(self._allowed_hosts) and not all(map(is_public, addresses)):
            raise MediaForbidden(
                f"The host {shown(host)} is not on the public internet; VLLM_ALLOWED_MEDIA_HOSTS can allow it."
            )
        return addresses

    def _resolve_in_time(self, host: str, port: int) -> list[str]:
        answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(resolve(host, port))
            except OSError as error:
                answers.put(error)

        # The system's resolver takes no timeout; a thread that it holds longer ends by itself.
        threading.Thread(target=ask, name="resolve", daemon=True).start()
        while True:
            try:
                answer = answers.get(timeout=self._deadline.look_s())
            except queue.Empty:
                continue
            if isinstance(answer, OSError):
                raise answer
            return answer


class _TimedStream(NetworkStream):
    """A connection on which every wait counts against one deadline, so dripping single bytes gains no time."""

    def __init__(self, stream: NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads what has come, at most `max_bytes`."""
        import httpcore

        while True:
            try:
                return self._stream.read(max_bytes, self._deadline.look_s())
            except httpcore.ReadTimeout:
                continue

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends the whole buffer."""
        self._stream.write(buffer, self._deadline.remaining_s())

    def close(self) -> None:
        """Closes the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        """Goes over to TLS; the certificate is checked against the host's name, not against its address."""
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.remaining_s())
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a connection."""
        return self._stream.get_extra_info(info)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    import httpcore

    return httpcore.default_ssl_context()
