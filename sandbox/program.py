"""What a child runs: its command line and its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PASSED_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
"""The only variables that a child gets: an interpreter and its libraries may need them to start. None is a key."""
CHILD_VARIABLES = {
    # Threads reserve address space, and decoding an image needs only one.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    # glibc keeps the memory of an image of a few megapixels for the next one: new pages would cost 12 ms each time.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "PYTHONUTF8": "1",
}


class Started(NamedTuple):
    """A running child; `release` frees what belongs to it, and is called once, after its end."""

    process: subprocess.Popen[bytes]
    release: Callable[[], None]


def command(interpreter: str, *fds: int) -> list[str]:
    """The command line of a child with these descriptors."""
    program = [interpreter, "-I", "-S"]
    program += ["-B"] if sys.dont_write_bytecode else []
    program += ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    # The child has another working folder, so relative entries do not work.
    paths = [ROOT, *(path for path in sys.path if os.path.isabs(path) and path != HERE)]
    return [*program, os.path.join(HERE, "child.py"), *map(str, fds), *paths]


def environment() -> dict[str, str]:
    """The environment of a child."""
    return {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ} | CHILD_VARIABLES
