"""`--install-engine`: installs vLLM into an environment of its own, in which an installed server then runs.

`scripts/setup` does the work under another name, `FOLDER.new`. The environment takes its place when vLLM can be
imported there, so a server that starts meanwhile finds the old one or none. What was downloaded stays in uv's cache for
the next attempt.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from cli.engine_environment import EngineEnvironment, engine_environment
from settings import ROOT, is_clone, missing_vllm

PROGRAM = "install-engine"
AUTO = "auto"
KINDS = {AUTO: None, "cpu": "cpu", "cuda": "gpu"}
"""Values of the option, and what `scripts/setup` calls them; AUTO: as before, else for the GPU if there is one."""
SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform != "win32":
    SIGNALS.append(signal.SIGHUP)
SETUP = os.path.join(ROOT, "scripts", "setup")
INTERRUPTED = 130


def install_engine(kind: str) -> int:
    """Makes the environment and says on stderr how far it is; returns the exit status.

    Arguments: `kind` is a key of `KINDS`.
    """
    if sys.platform != "linux":
        return _failed(missing_vllm() or "vLLM runs on Linux only.")
    if is_clone():
        return _failed("in a clone, scripts/setup [--cpu|--gpu] installs vLLM into .venv. Run that.")
    engine = engine_environment(ROOT, os.environ)
    _handle_signals(_interrupt)
    try:
        os.makedirs(os.path.dirname(engine.folder), exist_ok=True)
        with _locked(f"{engine.folder}.lock") as lock:
            return _install(engine, KINDS[kind], lock)
    except KeyboardInterrupt:
        _say("interrupted. Run it again to go on; what was there before is unchanged.")
        return INTERRUPTED
    except OSError as error:
        return _failed(f"{error.filename or engine.folder}: {error.strerror}. What was there before is unchanged.")


def _install(engine: EngineEnvironment, kind: str | None, lock: int) -> int:
    if os.path.lexists(engine.folder) and engine.kind() is None and not _is_empty(engine.folder):
        return _failed(f"{engine.folder} is not an engine of this server. Set VLLM_ENGINE_DIR to another folder.")
    installed = engine.kind()
    kind = kind or installed
    if installed is not None and kind == installed and engine.problem() is None and _imports_vllm(engine):
        _say(f"vLLM is installed in {engine.folder} already. Nothing was changed.")
        return 0
    new = EngineEnvironment(f"{engine.folder}.new", engine.root)
    _say(f"installing vLLM into {engine.folder}: some minutes, 1 GB or more to download")
    status = _run_setup(new, kind, lock)
    if status:
        return _failed("vLLM was not installed. What was there before is unchanged; run it again to go on.")
    if (problem := new.problem()) is not None:
        return _failed(f"the new engine {problem}. What was there before is unchanged.")
    _handle_signals(signal.SIG_IGN)  # nothing comes between the two renames
    _replace(engine.folder, new.folder)
    _say("done. Start the server again.")
    return 0


def _run_setup(new: EngineEnvironment, kind: str | None, lock: int) -> int:
    """Runs `scripts/setup` to the end; it keeps the lock, even if this process is killed.

    It has a session of its own, so that an interruption ends its children too.
    """
    if sys.platform != "linux":  # as `install_engine` has checked; mypy wants it here
        raise NotImplementedError
    variables = {
        "SETUP_VENV": new.folder,
        "SETUP_PROGRAM": PROGRAM,
        "SETUP_PYTHON": getattr(sys, "_base_executable", None) or sys.executable,
    }
    interrupted: list[int] = []
    _handle_signals(lambda number, frame: interrupted.append(number))  # until the `try` below: setup may run already
    setup = subprocess.Popen(
        ["bash", SETUP, *([] if kind is None else [f"--{kind}"])],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=(lock,),
        start_new_session=True,
    )
    try:
        _handle_signals(_interrupt)
        if interrupted:
            raise KeyboardInterrupt
        return setup.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(setup.pid, signal.SIGTERM)
        setup.wait()
        raise


def _imports_vllm(engine: EngineEnvironment) -> bool:
    return subprocess.run([engine.python, "-c", "import vllm"], capture_output=True).returncode == 0


def _replace(folder: str, new: str) -> None:
    """Puts `new` in the place of `folder`. Running servers may still need the files of the old one until they end."""
    old = f"{folder}.old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.lexists(folder):
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """Holds the lock of an engine's folder; waits for another installation, and says so."""
    if sys.platform != "linux":  # as `install_engine` has checked; mypy wants it here
        raise NotImplementedError
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another installation is running; waiting for it")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _is_empty(folder: str) -> bool:
    return os.path.isdir(folder) and not os.listdir(folder)


def _handle_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def _failed(text: str) -> int:
    _say(text)
    return 1
