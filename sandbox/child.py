"""The program of a child: runs the calls of its parent one after another, and ends when the parent has ended.

It is run by its path, isolated from the environment. The arguments are the descriptors of its socket, of a pipe that
is never written to, and of the shared area, then the parent's `sys.path`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sandbox.area import Area
    from sandbox.channel import Reply, Request
    from sandbox.result import Pending

N_DESCRIPTORS = 3
MAX_TEXT_CHARS = 2_000


def main() -> None:
    """Runs until the parent closes the socket."""
    fds = [int(argument) for argument in sys.argv[1 : 1 + N_DESCRIPTORS]]
    sys.path[:] = sys.argv[1 + N_DESCRIPTORS :]
    from sandbox.memory import confine

    confine()
    lifeline, area_fd = fds[1], fds[2]
    if lifeline >= 0:
        _die_with(lifeline)
    from sandbox.area import Area

    with _connected(fds[0]) as peer:
        serve(peer, Area(area_fd) if area_fd >= 0 else None)


def serve(peer: socket.socket, area: Area | None) -> None:
    """Runs calls until the parent has ended."""
    import msgspec

    from sandbox.channel import Reply, Request, receive, send

    send(peer, Reply(None, "", None, None, 0, 0))
    functions: dict[str, Callable[..., Any]] = {}
    while True:
        try:
            request = msgspec.msgpack.decode(receive(peer), type=Request)
            send(peer, _answered(request, functions, area))
        except (EOFError, OSError):
            return


def _answered(request: Request, functions: dict[str, Callable[..., Any]], area: Area | None) -> Reply:
    import msgspec

    from sandbox.channel import Reply
    from sandbox.limits import INLINE_BYTES, KEPT_AREA_BYTES
    from sandbox.memory import allowance, bound_processor_time
    from sandbox.result import Pending, Result

    kind, text = None, ""
    value: Any = None
    data: memoryview | None = None
    n_data = 0
    try:
        bound_processor_time(request.timeout_s)
        if request.function not in functions:
            functions[request.function] = _imported(request.function)
            allowance.rebase()
        given: bytes | memoryview | None = request.data
        if given is None and request.n_data and area is not None:
            given = area.view(request.n_data)
        # The data do not count: they are held once in the area and once in a file object.
        own_bytes = 2 * len(given or b"")
        allowance.begin(own_bytes + request.memory_bytes, own_bytes + request.ceiling_bytes)
        data_argument = {} if given is None else {"data": given}
        result = functions[request.function](**data_argument, **request.arguments)
        del given, data_argument  # the area is free for the result
        value, payload = result if isinstance(result, Result) else (result, None)
        msgspec.msgpack.encode(value)  # a value that cannot be sent is an error of the call
        if payload is not None:
            allowance.allow(sys.maxsize)
            n_data = payload.n_bytes if isinstance(payload, Pending) else len(payload)
            if area is None or n_data <= INLINE_BYTES:
                data = _written(payload, memoryview(bytearray(n_data)))
            else:
                _written(payload, area.view(n_data))
        payload = result = None
    except MemoryError:
        kind = "MemoryError"
    except BaseException as error:
        kind, text = f"{type(error).__module__}.{type(error).__qualname__}", str(error)[:MAX_TEXT_CHARS]
    if area is not None:
        area.forget(KEPT_AREA_BYTES)
    inline = None if data is None or kind is not None else bytes(data)
    return Reply(kind, text, value if kind is None else None, inline, n_data, allowance.end())


def _written(payload: bytes | memoryview | Pending, target: memoryview) -> memoryview:
    from sandbox.result import Pending

    if isinstance(payload, Pending):
        payload.write(target)
    else:
        target[:] = payload
    return target


def _imported(function: str) -> Callable[..., Any]:
    from importlib import import_module

    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _die_with(lifeline: int) -> None:
    """Makes the system end this process when the other end of the pipe is closed, even during C code. On Linux, the
    signal ends a stopped process too."""
    if sys.platform == "win32":
        return
    import fcntl
    import select
    import signal

    if sys.platform == "linux":
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    else:
        import ctypes

        library = ctypes.CDLL(None)
        library.signal(signal.SIGIO, library._exit)  # by default, macOS ignores SIGIO; a Python handler could wait
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before the signal was requested
        os._exit(0)


def _connected(fd: int) -> socket.socket:
    import socket

    if sys.platform != "win32":
        return socket.socket(fileno=fd)
    n_bytes = int.from_bytes(sys.stdin.buffer.read(8), "little")
    return socket.fromshare(sys.stdin.buffer.read(n_bytes))


if __name__ == "__main__":
    main()
