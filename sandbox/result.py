"""What a call in the sandbox gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Pending(NamedTuple):
    """So many bytes that `write` will write into the memory that it is given."""

    n_bytes: int
    write: Callable[[memoryview], None]


class Result(NamedTuple):
    """A value that msgpack knows, and bytes beside it, if there are any; a function may leave them `Pending`.

    A function returns one where it has many bytes to give: they come back through shared memory. For the caller they
    are bytes or a view, which holds only inside of `Sandbox.run`'s `take`.
    """

    value: Any
    data: bytes | memoryview | Pending | None = None

    @property
    def content(self) -> bytes | memoryview:
        """The bytes, for the caller."""
        return b"" if self.data is None or isinstance(self.data, Pending) else self.data


Take = Callable[[Result], Any]
