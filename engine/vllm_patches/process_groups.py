"""What vLLM tears down when an engine in this process ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def process_groups_kept() -> Iterator[None]:
    """For the end of one engine while others in this process go on.

    The end of an engine core in vLLM 0.32 destroys the process groups and the distributed environment, which all
    engines of a process share: the next step of another one fails with "pipeline model parallel group is not
    initialized". Inside this context they stay, and the next load uses them again.
    """
    core: Any = sys.modules.get("vllm.v1.engine.core")
    clean_up = getattr(core, "cleanup_dist_env_and_memory", None)
    if clean_up is None:
        yield
        return
    core.cleanup_dist_env_and_memory = lambda *arguments, **options: None
    try:
        yield
    finally:
        core.cleanup_dist_env_and_memory = clean_up
