"""The working folder at the start: relative paths are resolved against it, although the server leaves it.

A host may start the server in a folder that is deleted later, such as a git worktree. Without a working folder, native
libraries end the process (Intel's MKL calls `exit(2)` when it is loaded), and no processes can be started.
"""

import contextlib
import os
import sys
from collections.abc import Mapping

from settings import placeholders

LIBRARY_PATHS = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_XET_CACHE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_HOME",
    "TRITON_CACHE_DIR",
    "VLLM_CACHE_ROOT",
    "VLLM_CONFIG_ROOT",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)
"""Variables of libraries that hold a path; the libraries would resolve it against the new working folder."""

_left: str | None = None
"""The folder, after the server has left it; "" if it no longer existed."""


def leave() -> None:
    """Remembers the working folder, and changes to one that is never deleted."""
    global _left
    if _left is None:
        _left = _here()
        sys.path[:] = [os.path.join(_left, path) if _left and not os.path.isabs(path) else path for path in sys.path]
    with contextlib.suppress(OSError):
        os.chdir(os.path.abspath(os.sep))


def absolute(path: str) -> str:
    """The path, resolved against the folder of the start; a path that begins with "~" is returned unchanged.

    Raises: `FileNotFoundError` for a relative path if that folder did not exist at the start.
    """
    if os.path.isabs(path) or path.startswith("~"):
        return path
    start = _here() if _left is None else _left
    if not start:
        raise FileNotFoundError("the folder that the server was started in no longer exists")
    return os.path.normpath(os.path.join(start, path))


def library_paths(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of libraries that hold relative paths, with absolute paths; paths with a placeholder or a variable
    are left out."""
    given = {name: placeholders.cleaned(environment.get(name, "")) for name in LIBRARY_PATHS}
    made = {name: absolute_or_none(path) for name, path in given.items() if not placeholders.unfilled_in_path(path)}
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    if any(folder and not os.path.isabs(folder) for folder in folders):
        made["PYTHONPATH"] = os.pathsep.join(absolute_or_none(folder) or folder for folder in folders)
    return {name: path for name, path in made.items() if path and path != environment[name]}


def absolute_or_none(path: str) -> str | None:
    """See `absolute`; None for an empty path, or instead of the error."""
    try:
        return absolute(path) if path.strip() else None
    except FileNotFoundError:
        return None


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
