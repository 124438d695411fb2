"""When a call may run concurrently with others."""

from __future__ import annotations

import msgspec


class SchedulingPolicy(msgspec.Struct, frozen=True):
    """When a call may run concurrently with others. With one worker only `is_job_control` counts.

    Arguments:
        keys: resources that calls do not share, such as a session; calls with a common key run in order of arrival.
        bypass_queue: the call waits only for calls with a common key.
        exclusive: the call waits for all earlier calls without `bypass_queue`, and later ones wait for it.
        is_job_control: while the call waits, calls that wait for a job return early.
    """

    keys: frozenset[str] = frozenset()
    bypass_queue: bool = False
    exclusive: bool = False
    is_job_control: bool = False


ORDINARY = SchedulingPolicy()
BYPASS_QUEUE = SchedulingPolicy(bypass_queue=True)
