"""Functions that run in a child of the sandbox: honest ones, and some that do to their process what faults do."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from sandbox.memory import allowance
from sandbox.result import Result


def echoed(data: Any = None, **arguments: Any) -> Result:
    return Result(arguments, None if data is None else bytes(data))


def environment() -> dict[str, str]:
    return dict(os.environ)


def descriptors() -> dict[str, str]:
    """What each open descriptor is, apart from the one that lists them."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
    return found


def process_id() -> int:
    return os.getpid()


def folder() -> str:
    return os.getcwd()


def asleep(seconds: float) -> None:
    time.sleep(seconds)


def busy() -> None:
    while True:
        pass


def filled(n_bytes: int, allowed: int = 0) -> int:
    if allowed:
        allowance.allow(allowed)
    return len(b"x" * n_bytes)


def long_answer(n_bytes: int) -> Result:
    return Result(None, b"x" * n_bytes)


def raising(text: str) -> None:
    raise LookupError(text)


def unsendable() -> object:
    return object()


def leaving(status: int) -> None:
    os._exit(status)


def crashed(number: int = signal.SIGSEGV) -> None:
    os.kill(os.getpid(), number)
