"""vLLM's sleep mode: the weights go from the GPU to the host's memory and come back, in seconds instead of a load."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import InvalidStateError
from typing import Any

LOOK_S = 0.1
"""How often it is looked whether the engine core's process still lives."""


class CoreGone(RuntimeError):
    """The engine core's process ended in the middle of a request to it."""


def fall_asleep(llm: Any) -> None:
    """Moves the weights to the host's memory and drops the KV cache; its prefix and picture caches go with it."""
    with _ending_with_the_core(llm.llm_engine.engine_core):
        llm.sleep(level=1)


def wake_up(llm: Any) -> None:
    """Brings the weights back and makes a new KV cache."""
    with _ending_with_the_core(llm.llm_engine.engine_core):
        llm.wake_up()


@contextlib.contextmanager
def _ending_with_the_core(core: Any) -> Iterator[None]:
    """Makes requests to an engine core in a process of its own fail when that process ends.

    vLLM's client waits for the answer without end (0.32), and moving a large model into the host's memory is when
    the system may well kill that process.
    """
    if not hasattr(core, "utility_results"):
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(core, over), name="engine-core-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()


def _watch(core: Any, over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        if core.resources.engine_dead:
            for future in list(core.utility_results.values()):
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(CoreGone("The engine core's process is gone."))
