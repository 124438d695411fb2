"""When vLLM collects garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def garbage_left() -> Iterator[None]:
    """For the end of an engine in this process; the caller collects the garbage afterwards.

    The end of an engine in vLLM 0.32 collects all garbage several times, for up to 0.7 s each, in which no other thread
    runs: signals and messages wait. Inside this context nothing is collected on request.
    """
    collect = gc.collect
    gc.collect = lambda generation=2: 0
    try:
        yield
    finally:
        gc.collect = collect
