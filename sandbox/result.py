"""What a call in the sandbox gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Result(NamedTuple):
    """A value that msgpack knows, and bytes beside it, if there are any.

    A function returns one where it has many bytes to give: they come back through shared memory. For the caller, the
    view holds only inside of `Sandbox.run`'s `take`.
    """

    value: Any
    data: bytes | bytearray | memoryview | None = None


Take = Callable[[Result], Any]
