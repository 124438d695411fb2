"""Finds and kills the processes of one server, from the server itself or after its end.

Run as `python -I -S reaper.py <server's process id> <mark> <folder> <descriptor>`, it waits for the server's end, kills
the server's remaining processes, removes the folder of its sockets, and ends. A byte in the pipe of that descriptor (-1
for none) says that the server is to end, which the server reads once it has the GIL. A server that does not end in
time, because a library holds the GIL, is killed. Processes are recognized by the mark alone, which every child of the
server has: in its environment or, when it was forked without an exec, as the name of an inherited descriptor. It uses
only the standard library.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

# Frees shared memory when its server has ended, and ends; killed early, it would leave the memory allocated.
TRACKER = b"multiprocessing.resource_tracker"
TRACKER_GRACE_S = 0.5
KILL_S = 1.65
"""How long the server may take to end: clients wait 2 s, and it ends by itself after 1.6 s once it has the GIL."""


def marked_processes(mark: str) -> list[int]:
    """Ids of all running processes with this mark except this one."""
    own = os.getpid()
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    return [int(name) for name in names if name.isdigit() and int(name) != own and _is_marked(name, mark)]


def kill_marked(mark: str, spare_trackers: bool, within_s: float = 1.0) -> None:
    """Kills the processes with this mark and those that they start, until none is left or the time is up."""
    if sys.platform == "win32":  # the engine runs on Linux only
        return
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        left = [pid for pid in marked_processes(mark) if not (spare_trackers and is_tracker(pid))]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.02)


def _is_marked(pid: str, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            if mark.encode() in environment.read():
                return True
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(mark in _link(f"/proc/{pid}/fd/{descriptor}") for descriptor in descriptors)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def is_tracker(pid: int) -> bool:
    """Whether a process is the tracker of shared memory."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return TRACKER in command.read()
    except OSError:
        return False


def _wait_for_end(pid: int, ending_fd: int) -> None:
    if sys.platform != "linux" or os.getppid() != pid:  # the server has ended
        return
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        while os.getppid() == pid:
            time.sleep(0.2)
        return
    watched = [descriptor] if ending_fd < 0 else [descriptor, ending_fd]
    if descriptor in select.select(watched, [], [])[0]:
        return
    if not select.select([descriptor], [], [], KILL_S)[0]:
        os.kill(pid, signal.SIGKILL)
        select.select([descriptor], [], [])


def remove_folder(folder: str) -> None:
    """Removes the folder of sockets, if there is one ("" for none)."""
    if folder:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def main(pid: int, mark: str, folder: str, ending_fd: int) -> None:
    """Waits for the server's end and removes what it left."""
    _wait_for_end(pid, ending_fd)
    kill_marked(mark, spare_trackers=True)
    if marked_processes(mark):
        time.sleep(TRACKER_GRACE_S)
        kill_marked(mark, spare_trackers=False)
    remove_folder(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
