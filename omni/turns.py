"""When a generation on a vLLM-Omni server may begin: another program may have the GPU's memory."""

from __future__ import annotations

from typing import Protocol


class Turns(Protocol):
    """Told of each generation on each server, by the server's address; used on the event loop."""

    async def begin(self, url: str) -> None:
        """Returns when the generation may begin. Where it raises, `end` is not called."""

    def end(self, url: str) -> None:
        """The generation has ended, in whatever way."""


class AtOnce:
    """Every generation may begin at once."""

    async def begin(self, url: str) -> None:
        """Returns at once."""

    def end(self, url: str) -> None:
        """Does nothing."""
