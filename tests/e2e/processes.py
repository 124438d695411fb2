"""The processes that a server starts, and whether any outlives it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OneProcess:
    """A process of this machine; `started` distinguishes it from a later one with the same id."""

    pid: int
    parent: int
    started: int

    def alive(self) -> bool:
        """Whether it still runs. A zombie does not."""
        return _process(self.pid) == self

    def environment(self) -> list[bytes]:
        """Its first environment; empty where it may not be read."""
        try:
            return Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return []

    def command(self) -> str:
        """Its command line, for error messages."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return "(ended)"


def assert_all_end(processes: Sequence[OneProcess], timeout_s: float = 5.0) -> None:
    """Fails unless all of these processes end within `timeout_s`."""
    until_s = time.monotonic() + timeout_s
    while alive := [process for process in processes if process.alive()]:
        assert time.monotonic() < until_s, [f"{process.pid}: {process.command()}" for process in alive]
        time.sleep(0.02)


def children_of(pid: int) -> list[OneProcess]:
    """Running processes that this one or its children started, while the processes between are alive."""
    running = processes()
    found, parents = [], {pid}
    while parents:
        children = [process for process in running if process.parent in parents]
        parents = {process.pid for process in children}
        found += children
    return found


def processes() -> list[OneProcess]:
    """All running processes."""
    found = (_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def _process(pid: int) -> OneProcess | None:
    try:
        state, parent, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state == "Z" else OneProcess(pid, int(parent), int(fields[17]))
