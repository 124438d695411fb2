"""Starts the process of a child, which ends with this process.

On Linux and macOS it inherits descriptors; one is its end of a pipe, the lifeline, which is closed when this process
ends. See `starting_windows` for Windows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from sandbox.program import Started, command, environment

if TYPE_CHECKING:
    import socket


def start(theirs: socket.socket, area_fd: int) -> Started:
    """Starts a child.

    Arguments:
        theirs: its end of the channel.
        area_fd: the descriptor of the shared area; -1 for none.

    Raises: `OSError`.
    """
    if sys.platform == "win32":
        from sandbox import starting_windows

        return starting_windows.start(theirs)
    theirs_end, lifeline = os.pipe()
    fds = (theirs.fileno(), theirs_end, area_fd)
    try:
        process = subprocess.Popen(
            command(sys.executable or os.path.realpath("/proc/self/exe"), *fds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            pass_fds=[fd for fd in fds if fd >= 0],
            start_new_session=True,  # Ctrl-C on a terminal must reach only the server
        )
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        os.close(theirs_end)
    return Started(process, lambda: os.close(lifeline))
