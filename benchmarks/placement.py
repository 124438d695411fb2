"""Which CPUs the client and the server use. A round trip across cores takes several times longer than on one core, so
each table states the placement, and both sides are pinned to it.
"""

from __future__ import annotations

import os

import msgspec

from benchmarks.pipe_server import Cpus


class Placement(msgspec.Struct, frozen=True):
    """The CPUs of both sides; `name` is the table's title."""

    name: str
    client: Cpus
    server: Cpus


def placements() -> list[Placement]:
    """Both sides on one CPU, and each on its own where there are two."""
    cpus = sorted(os.sched_getaffinity(0))
    first = frozenset(cpus[:1])
    found = [Placement("client and server on the same CPU", first, first)]
    if len(cpus) > 1:
        found.append(Placement("client and server on two CPUs", first, frozenset(cpus[1:2])))
    return found
