"""Where the client and the server run. A round trip costs several times more across cores than on one, so each table
says which it was, and both sides are held there.
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
