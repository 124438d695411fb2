"""The result of a call in the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Pending(NamedTuple):
    """`n_bytes` that `write` will write into the memory that it is given."""

    n_bytes: int
    write: Callable[[memoryview], None]


class Result(NamedTuple):
    """A value of msgpack's types, and optional bytes, which a function may return as `Pending`.

    A function returns a `Result` if it has many bytes: they are passed through shared memory. The caller gets bytes, or
    a view that is valid only within the `take` of `Sandbox.run`.
    """

    value: Any
    data: bytes | memoryview | Pending | None = None

    @property
    def content(self) -> bytes | memoryview:
        """The bytes, for the caller."""
        return b"" if self.data is None or isinstance(self.data, Pending) else self.data


Take = Callable[[Result], Any]
