"""Waiting for a condition that another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_S = 30.0
"""The default limit; long, since the machine may be busy."""


def wait_until(holds: Callable[[], object], timeout_s: float = WAIT_S, interval_s: float = 0.001) -> None:
    """Returns as soon as `holds()` is true; fails the test when it still is not after `timeout_s`."""
    until_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until_s, f"not true within {timeout_s} s"
        time.sleep(interval_s)
