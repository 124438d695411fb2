"""Runs a program of this repository as if the machine were Windows or macOS.

    python -m tests.foreign_platform win32 vllm_server.py --check

Only modules of the server see that system: to them, `os`, `select`, `signal`, `fcntl`, `sys` and others are stand-ins
without what the system lacks, and with the failures that it has. The standard library and the packages keep the real
ones. This finds calls that do not exist elsewhere. It does not imitate paths, line ends, locks or the kernel: only a
run on that system shows these.

The children of the sandbox run in the same way.
"""

from __future__ import annotations

import builtins
import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

HERE = os.path.realpath(__file__)
ROOT = os.path.dirname(os.path.dirname(HERE))
if ROOT not in sys.path:
    sys.path.append(ROOT)  # a child of the sandbox is run by its path

from tests import foreign_calls  # noqa: E402

MISSING = {
    "darwin": {
        "os": "memfd_create pidfd_open sched_getaffinity sched_setaffinity splice copy_file_range posix_fallocate",
        "select": "epoll epoll_create",
        "signal": "pidfd_send_signal sigtimedwait sigwaitinfo",
        "fcntl": "F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_SETSIG F_GETSIG",
        "resource": "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO",
        "socket": "AF_NETLINK AF_VSOCK SOCK_CLOEXEC",
    },
    "win32": {
        "os": "O_NONBLOCK O_NOCTTY O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_SYNC O_ASYNC set_blocking get_blocking "
        "sched_getaffinity sched_setaffinity sysconf memfd_create pidfd_open fork forkpty getuid geteuid getgid "
        "getpgid setsid killpg wait4 statvfs mkfifo readv writev pread pwrite sendfile chown fchown fchmod lchown "
        "WNOHANG uname getloadavg posix_spawn openpty ttyname splice copy_file_range posix_fallocate",
        "select": "poll epoll kqueue POLLIN POLLOUT POLLERR POLLHUP POLLNVAL POLLPRI",
        "signal": "SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGPIPE SIGQUIT SIGTSTP SIGIO SIGXCPU SIG_UNBLOCK "
        "SIG_BLOCK pthread_sigmask pthread_kill alarm setitimer ITIMER_REAL sigwait pause",
        "socket": "AF_UNIX AF_NETLINK AF_VSOCK SOCK_CLOEXEC SCM_RIGHTS",
        "subprocess": "",
        "time": "clock_gettime CLOCK_MONOTONIC",
    },
}
"""For each system, the names that its modules do not have."""
NO_MODULE: dict[str, frozenset[str]] = {
    "darwin": frozenset({"msvcrt", "winreg"}),
    "win32": frozenset({"fcntl", "termios", "resource", "pwd", "grp", "pty", "tty", "syslog", "posix"}),
}


class StandIn(ModuleType):
    """A module without some of its names and with others changed. What is assigned to it goes to the real one."""

    def __init__(self, real: ModuleType, missing: frozenset[str], changed: Mapping[str, object], platform: str) -> None:
        super().__init__(real.__name__)
        self.__dict__.update({"_real": real, "_missing": missing, "_platform": platform}, **changed)

    def __getattr__(self, name: str) -> object:
        if name in self.__dict__["_missing"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on {self.__dict__['_platform']}")
        return getattr(self.__dict__["_real"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["_real"], name, value)


def pretend(platform: str, root: str = ROOT) -> None:
    """From here on, modules below `root` see another system; those of `tests` and of the packages do not."""
    real_import = builtins.__import__
    changed = foreign_calls.changed(platform, _through_this_file(platform))
    modules: dict[str, ModuleType] = {
        name: StandIn(
            real_import(name), frozenset(MISSING[platform].get(name, "").split()), changed.get(name, {}), platform
        )
        for name in sorted({*MISSING[platform], *changed} - NO_MODULE[platform])
    }
    modules |= foreign_calls.MODULES.get(platform, {})
    root += os.sep
    others = (f"{root}tests{os.sep}", f"{root}.venv{os.sep}")
    opened = foreign_calls.without_kernel_files(builtins.open)

    def importing(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        file = str((globals or {}).get("__file__", ""))
        if isinstance(globals, dict) and file.startswith(root) and not file.startswith(others) and level == 0:
            globals["open"] = opened
            if name in NO_MODULE[platform]:
                raise ModuleNotFoundError(f"No module named {name!r} on {platform}", name=name)
            if name in modules:
                return modules[name]
        return real_import(name, globals, locals, fromlist or (), level)

    builtins.__import__ = importing


def _through_this_file(platform: str) -> Callable[[Sequence[str]], list[str]]:
    """Returns a function that makes the command of a Python child run under the same stand-ins."""

    def command(arguments: Sequence[str]) -> list[str]:
        at = next((index for index, word in enumerate(arguments) if word.endswith(".py")), None)
        if at is None:
            return list(arguments)
        return [*arguments[:at], HERE, platform, *arguments[at:]]

    return command


def main() -> None:
    """Runs the program of the command line."""
    platform, program = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    program = sys.argv[0] = os.path.abspath(program)
    if not sys.flags.isolated:
        sys.path[0] = os.path.dirname(program)
    pretend(platform)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
