"""Many pictures of one call, read side by side: one that cannot be read, or not in time, does not fail the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from engine.errors import GenerationCancelled
from engine.interface import ImagePart
from engine.memory import free_memory_bytes
from media.errors import MediaError, MediaTooLarge

if TYPE_CHECKING:
    from mcp_protocol.call import Call
    from media.image import DecodedImage, ImageReader

READERS = 8
"""Downloads and decodings at a time; decoding leaves Python's lock."""
LOOK_S = 0.1
"""How often waiting asks whether the call was cancelled."""
MEMORY_SHARE = 4
"""The decoded pictures of a call together take at most this part of the free memory: a quarter."""
NOT_IN_TIME = "The call's time was up before this picture was read."


def read_pictures(references: Sequence[str], images: ImageReader, call: Call) -> list[ImagePart | str]:
    """Each reference's picture, or why there is none.

    Raises: `GenerationCancelled`.
    """
    budget = _Budget()
    if len(references) == 1 and references[0][:4].casefold() != "http":
        return [_read(references[0], images.read, budget)]
    pool = ThreadPoolExecutor(min(READERS, len(references)), thread_name_prefix="pictures")
    try:
        futures = [pool.submit(_read, reference, images.read, budget) for reference in references]
        _wait_for(futures, call)
        return [future.result() if future.done() else NOT_IN_TIME for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Budget:
    """How many bytes the pictures of one call may still take."""

    def __init__(self) -> None:
        self._left = free_memory_bytes() // MEMORY_SHARE
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> None:
        """Raises `MediaTooLarge` when there is not so much left."""
        with self._lock:
            if n_bytes > self._left:
                raise MediaTooLarge(
                    "The pictures of this call take too much memory together; send this one in a call of its own."
                )
            self._left -= n_bytes


def _read(reference: str, read: Callable[[str], DecodedImage], budget: _Budget) -> ImagePart | str:
    try:
        decoded = read(reference)
        budget.take(decoded.n_bytes)
    except MediaError as error:
        return str(error)
    return ImagePart(decoded.image, decoded.digest)


def _wait_for(futures: Sequence[Future[ImagePart | str]], call: Call) -> None:
    pending = set(futures)
    while pending:
        if call.cancelled():
            raise GenerationCancelled
        left_s = LOOK_S if call.deadline_s is None else call.deadline_s - time.monotonic()
        if left_s <= 0:
            return
        _, pending = wait(pending, min(LOOK_S, left_s))
