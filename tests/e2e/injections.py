"""Faults put into the real server from outside: short memory, full and read-only disks, a jumping clock, a broken step.

Disks are mounted in a namespace of the server's own, so nothing is left of them when it ends, however it ends.
"""

from __future__ import annotations

import contextlib
import glob
import os
import resource
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.server_process import ServerProcess

MIB = 1 << 20
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
"""The library that fakes a process's clock, where the system's package `libfaketime` puts it."""

BREAKABLE = """
import builtins, os, sys, threading, time

def watch():
    while not hasattr(sys.modules.get("vllm.v1.engine.core"), "EngineCore"):
        time.sleep(0.005)
    core = sys.modules["vllm.v1.engine.core"].EngineCore
    really_step = core.step

    def step(self):
        try:
            with open(os.environ["BREAK_STEP"]) as file:
                kind = file.read()
            os.unlink(os.environ["BREAK_STEP"])
        except OSError:
            return really_step(self)
        raise getattr(builtins, kind)("inside the model at 0x7f0011223344")

    core.step = step

if os.environ.get("BREAK_STEP"):
    threading.Thread(target=watch, daemon=True).start()
"""

JUMPING = """
import os, time

def jumped(really, unit):
    def now():
        try:
            with open(os.environ["JUMPED_S"]) as file:
                return really() + type(really())(float(file.read()) * unit)
        except (OSError, ValueError):
            return really()
    return now

if os.environ.get("JUMPED_S"):
    time.time, time.time_ns = jumped(time.time, 1), jumped(time.time_ns, 10**9)
"""


class BreakableStep:
    """An environment in which the engine's next step can be made to raise."""

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(BREAKABLE)
        self._order = folder / "break"
        self.environment = {"PYTHONPATH": str(folder), "BREAK_STEP": str(self._order)}

    def arm(self, kind: str = "RuntimeError") -> None:
        """The engine's next step raises, once."""
        unfinished = self._order.with_suffix(".new")
        unfinished.write_text(kind)
        unfinished.rename(self._order)

    @property
    def armed(self) -> bool:
        """Whether it has not happened yet."""
        return self._order.exists()


class JumpingClock:
    """An environment in which the wall clock can be moved while the server runs.

    With libfaketime for all that the process calls, where the machine has it; else for what Python code calls.
    """

    def __init__(self, folder: Path) -> None:
        self._jump = folder / "jump"
        libraries = sorted(glob.glob(FAKETIME))
        self.for_all_code = bool(libraries)
        if libraries:
            self.environment = {
                "LD_PRELOAD": libraries[0],
                "FAKETIME_TIMESTAMP_FILE": str(self._jump),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        else:
            (folder / "sitecustomize.py").write_text(JUMPING)
            self.environment = {"PYTHONPATH": str(folder), "JUMPED_S": str(self._jump)}
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """The wall clock is so many seconds ahead of the real one from now on."""
        unfinished = self._jump.with_suffix(".new")
        unfinished.write_text(f"{seconds:+}\n")
        unfinished.rename(self._jump)


@contextlib.contextmanager
def short_of_memory(server: ServerProcess, spare_bytes: int) -> Iterator[None]:
    """The process gets at most so much more address space meanwhile."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0])
    with limited(server, resource.RLIMIT_AS, pages * resource.getpagesize() + spare_bytes):
        yield


@contextlib.contextmanager
def limited(server: ServerProcess, what: int, value: int) -> Iterator[None]:
    """A limit of the process (`resource.RLIMIT_…`) is this value meanwhile."""
    _, hard = before = resource.prlimit(server.pid, what)
    resource.prlimit(server.pid, what, (value, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(server.pid, what, before)


def small_disk(folder: Path, n_bytes: int) -> tuple[str, ...]:
    """A wrapper for a server that finds an empty disk of this size in place of the folder."""
    return _in_namespace('mount -t tmpfs -o size="$1" tmpfs "$2"', str(n_bytes), str(folder))


def read_only(folder: Path) -> tuple[str, ...]:
    """A wrapper for a server that may not change the folder, not even as root."""
    return _in_namespace('mount --bind "$2" "$2" && mount -o remount,bind,ro "$2"', "", str(folder))


def as_seen_by(server: ServerProcess, path: Path) -> Path:
    """Where a path of the server's namespace is from here."""
    return Path(f"/proc/{server.pid}/root{path}")


def _in_namespace(mount: str, *arguments: str) -> tuple[str, ...]:
    if not _may_mount():
        pytest.skip("this machine lets nobody mount in a namespace")
    return (*_unshare(), "sh", "-c", f'{mount} && shift 2 && exec "$@"', "sh", *arguments)


def _unshare() -> tuple[str, ...]:
    return ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--user", "--map-root-user")


@cache
def _may_mount() -> bool:
    try:
        done = subprocess.run([*_unshare(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
