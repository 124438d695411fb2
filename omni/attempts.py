"""Sending a request to generate again, but only where the server has certainly not begun with it.

Behind an answer that a gateway gave up waiting for, or a connection that broke, the image may still be in the making:
asked for again, it would be made twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from omni.errors import OmniError

T = TypeVar("T")

PAUSES_S = (0.5, 1.0)
"""How long to wait before each further attempt, unless the server says how long."""
MAX_PAUSE_S = 20.0
"""A server that asks for a longer pause is believed, and its refusal told."""


async def attempted(send: Callable[[], Awaitable[T]]) -> T:
    """What `send` returns, called up to three times while it raises errors that are `not_begun`; raises the last."""
    for pause_s in PAUSES_S:
        try:
            return await send()
        except OmniError as error:
            if not error.not_begun or (error.retry_after_s or 0.0) > MAX_PAUSE_S:
                raise
            await asyncio.sleep(max(pause_s, error.retry_after_s or 0.0))
    return await send()
