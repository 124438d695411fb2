"""Downloads over HTTP, protected against requests to this machine's own network (SSRF).

`fetch` opens connections through `_GuardedBackend` only. It resolves the host, checks every address, and connects to
an address that it checked, so DNS rebinding has no effect. Redirects are followed here, and each target is checked
like the first URL. Proxies, cookies and credentials of the environment are not used.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import socket
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from media.call_limits import NO_LIMITS, CallLimits
from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable, megabytes, shown
from media.kinds import IMAGE, MediaKind
from media.network.addresses import WebAddress, is_public, parse_url
from settings import SERVER_NAME, SERVER_VERSION

if TYPE_CHECKING:
    import ssl

    from httpcore import NetworkBackend, NetworkStream
else:
    # httpcore takes 0.1 s to import, and most calls download nothing.
    NetworkBackend = NetworkStream = object

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32
_HEADERS = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": f"{SERVER_NAME}/{SERVER_VERSION}"}


TlsContext = Callable[[], "ssl.SSLContext"]
"""Creates the TLS context of an https connection. An exception's text is shown to the caller."""


def fetch(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    allowed_hosts: Collection[str] = (),
    kind: MediaKind = IMAGE,
    tls_context: TlsContext | None = None,
    limits: CallLimits = NO_LIMITS,
) -> bytes:
    """Downloads an http or https URL.

    Arguments:
        max_bytes: of the body, also after decompression.
        timeout_s: for name resolution, connections, redirects and the body together.
        allowed_hosts: hosts ("host" or "host:port", in ASCII) whose addresses need not be public.
        kind: for error texts and the Accept header.
        tls_context: which certificates are trusted; the well-known authorities by default.
        limits: end the download early and close its connection. Opening a connection is not interrupted.

    Raises: `MediaForbidden`, `MediaNotFound`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """
    deadline = _Deadline(timeout_s, limits)
    address = parse_url(url)
    for _ in range(MAX_REDIRECTS + 1):
        result = _get(address, max_bytes, deadline, allowed_hosts, kind, tls_context or _tls_context)
        if isinstance(result, bytes):
            return result
        address = result
    raise MediaForbidden(f"The URL redirects more than {MAX_REDIRECTS} times, last to {shown(address.host)}.")


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a host, best first; raises `OSError` when it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Deadline:
    """When a download has to end: by its own timeout or by the limits of its call."""

    def __init__(self, timeout_s: float, limits: CallLimits) -> None:
        self.timeout_s = timeout_s
        self.limits = limits
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left; raises `TimeoutError` when there are none, and `MediaCancelled` when the call ended."""
        self.limits.check()
        remaining = self.limits.left_s(self._end - time.monotonic())
        if remaining <= 0:
            raise TimeoutError
        return remaining


def _get(
    address: WebAddress,
    max_bytes: int,
    deadline: _Deadline,
    allowed_hosts: Collection[str],
    kind: MediaKind,
    tls_context: TlsContext,
) -> bytes | WebAddress:
    """Makes one request; returns the body, or the target of a redirect."""
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
            body = _read_body(fields, response.iter_stream(), max_bytes, host, kind)
            deadline.limits.check()  # a cancelled download may look like a complete one
            return body
    except MediaError:
        raise
    except Exception as error:
        deadline.limits.check()
        if isinstance(error, (TimeoutError, httpcore.TimeoutException)):
            raise MediaUnreadable(
                f"The host {host} did not deliver the {kind.noun} within {deadline.timeout_s:g} s "
                "(VLLM_MEDIA_FETCH_TIMEOUT)."
            ) from None
        if isinstance(error, (httpcore.ConnectError, OSError)):
            raise MediaNotFound(_connection_problem(error, host)) from None
        raise MediaUnreadable(f"The host {host} closed the connection before the {kind.noun} was complete.") from error


def _connection_problem(error: BaseException, host: str) -> str:
    """Why no connection could be opened: the certificate, TLS, or the network."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The certificate of the host {host} cannot be verified, so nothing was fetched. If this network has "
                "its own certificate authority, set VLLM_CA_FILE (or SSL_CERT_FILE) to a file with its certificate."
            )
        if isinstance(cause, ssl.SSLError):
            return f"The TLS handshake with the host {host} failed: it may not serve https."
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
        raise MediaUnreadable(f"The host {host} sent the {kind.noun} in a content encoding that is not supported.")
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _decompress(chunks: Iterable[bytes], max_bytes: int, host: str) -> Iterator[bytes]:
    """Decompresses a body that was compressed unasked, up to one byte more than `max_bytes`."""
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
    """Opens the connections of one request, only to addresses that it has checked."""

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
        """Connects to the first checked address that accepts."""
        import httpcore

        addresses = self._checked_addresses(host, port)
        for number, ip in enumerate(addresses):
            # An address that drops packets must not use up the time of the others.
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
        # One private address among public ones is refused too: names that are used for DNS rebinding look like this.
        if not self._address.is_one_of(self._allowed_hosts) and not all(map(is_public, addresses)):
            raise MediaForbidden(
                f"The host {shown(host)} is not on the public internet; VLLM_ALLOWED_MEDIA_HOSTS can allow it."
            )
        return addresses

    def _resolve_in_time(self, host: str, port: int) -> list[str]:
        results: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

        def run() -> None:
            try:
                results.put(resolve(host, port))
            except OSError as error:
                results.put(error)

        withdraw = self._deadline.limits.cancellation.on_set(lambda: results.put(TimeoutError()))
        # The system's resolver has no timeout; a thread that it blocks ends by itself later.
        threading.Thread(target=run, name="resolve", daemon=True).start()
        try:
            result = results.get(timeout=self._deadline.remaining_s())
        except queue.Empty:
            raise TimeoutError from None
        finally:
            withdraw()
        if isinstance(result, OSError):
            raise result
        return result


class _TimedStream(NetworkStream):
    """A connection on which all waits share one deadline, so a server gains no time by sending single bytes.

    Cancelling the call shuts the connection down.
    """

    def __init__(self, stream: NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._withdraw = deadline.limits.cancellation.on_set(self._shut_down)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads what has arrived, at most `max_bytes`."""
        return self._stream.read(max_bytes, self._deadline.remaining_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends the whole buffer."""
        self._stream.write(buffer, self._deadline.remaining_s())

    def close(self) -> None:
        """Closes the connection."""
        self._withdraw()
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        """Starts TLS; the certificate is checked against the host's name, not against its address."""
        self._withdraw()
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.remaining_s())
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore needs to know about a connection."""
        return self._stream.get_extra_info(info)

    def _shut_down(self) -> None:
        # The plain socket's method: the one of a TLS socket must not be called while another thread reads.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    import httpcore

    return httpcore.default_ssl_context()
