"""A function that takes memory in spite of its limit, as on systems that do not enforce one."""

from __future__ import annotations

import time

from sandbox.limits import HARD_MEMORY_BYTES
from sandbox.memory import allowance


def swollen(n_bytes: int) -> None:
    allowance.begin(HARD_MEMORY_BYTES, HARD_MEMORY_BYTES)
    held = b"x" * n_bytes
    time.sleep(60)
    del held
