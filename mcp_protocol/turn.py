"""When a call may run beside others: what its tool says of that, and its arguments."""

from __future__ import annotations

import msgspec


class Turn(msgspec.Struct, frozen=True):
    """A call's place among those that run at the same time. With a single worker nothing of it counts but `about_jobs`:
    calls then run one after another.

    `keys` name what a call has to itself, such as a session: calls with a key in common run in order of arrival. A
    call that is `at_once` waits for nothing else. One that is `exclusive` waits for all calls before it but those that
    are `at_once`, and those behind it wait for it. A call `about_jobs` that waits ends the waiting of those that only
    wait for a job.
    """

    keys: frozenset[str] = frozenset()
    at_once: bool = False
    exclusive: bool = False
    about_jobs: bool = False


ORDINARY = Turn()
AT_ONCE = Turn(at_once=True)
