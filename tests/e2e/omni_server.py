"""A real vLLM-Omni on the CPU, started by `scripts/omni-cpu` as a user would start it.

    with OmniServer("klein") as server:
        httpx.get(f"{server.url}/health")

The environment `.venv-omni` and the tiny checkpoints are made when a test first asks for them, and kept. A test that
starts a server takes the fixture `omni_environment`, or one of the shared servers.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

from tests.e2e import environments
from tests.e2e.processes import OneProcess, children_of

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "omni-cpu"
SETUP_TIMEOUT_S = 1200
UNREACHABLE = (*environments.UNREACHABLE, "is the package index that pip uses within reach?")
START_S = 240.0
"""How long a server may take to answer: 15 s on an idle machine, and more before Python has compiled its modules."""
EXIT_S = 20.0
SETTLE_S = 0.4
# An image's request counts as waiting until it is done, a video's as running.
AT_WORK = re.compile(rb"^vllm_omni:num_requests_(running|waiting)(\{.*\})? [1-9]", re.MULTILINE)
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of this machine, whatever proxy the environment names."""
TINY = ("klein", "qwen-image", "z-image", "wan-s2v", "wan-t2v", "wan-ti2v", "wan-i2v", "omnivoice")


@functools.cache
def set_up() -> str | None:
    """Makes `.venv-omni`, or leaves a complete one alone; returns what went wrong, if anything did."""
    run = subprocess.run(
        [SCRIPT, "--setup-only"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SETUP_TIMEOUT_S,
    )
    return run.stderr if run.returncode else None


def require() -> None:
    """Skips the calling test where no package index can be reached.

    Raises: `RuntimeError` when vLLM-Omni could not be installed for another reason.
    """
    problem = set_up()
    if problem is None:
        return
    if any(sign in problem for sign in UNREACHABLE):
        pytest.skip("vLLM-Omni cannot be installed: no package index can be reached")
    raise RuntimeError(f"scripts/omni-cpu --setup-only failed:\n{problem}")


class OmniServer:
    """One server, from its start to its end; `with` waits until it answers.

    Arguments:
        model: one of `TINY`, or a folder.
        port: where it listens on 127.0.0.1; a free one by default.
        arguments: more arguments for `vllm-omni serve`.
    """

    def __init__(self, model: str | Path, port: int = 0, arguments: Sequence[str] = ()) -> None:
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the server)
        tiny = ("--tiny", str(model)) if model in TINY else (str(model),)
        self.process = subprocess.Popen(
            [SCRIPT, "--port", str(self.port), *tiny, "--", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "HF_"))},
        )

    def __enter__(self) -> OmniServer:
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    @property
    def model_name(self) -> str:
        """Under which name it serves its model."""
        with urllib.request.urlopen(f"{self.url}/v1/models", timeout=30) as answer:
            return str(json.load(answer)["data"][0]["id"])

    @property
    def log(self) -> str:
        """What it has written on stdout and stderr."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")

    def small_profile(self, folder: Path) -> str:
        """Writes a file of profiles by which this server's model makes small images quickly; returns its path."""
        small = {"default_steps": 2, "default_resolution": [64, 64], "supported_aspect_ratios": {"1:1": [64, 64]}}
        file = folder / "small.json"
        file.write_text(json.dumps({self.model_name: small}))
        return str(file)

    def wait_until_ready(self, timeout_s: float = START_S) -> None:
        """Waits until `/health` answers.

        Raises: `RuntimeError` with the log's end when the server ended, `TimeoutError` likewise.
        """
        until_s = time.monotonic() + timeout_s
        while not self.is_healthy():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self.process.returncode}:\n{self.log[-4000:]}")
            if time.monotonic() > until_s:
                raise TimeoutError(f"the server did not answer in {timeout_s} s:\n{self.log[-4000:]}")
            time.sleep(0.1)

    def is_healthy(self) -> bool:
        """Whether `/health` answers with status 200."""
        try:
            with DIRECT.open(f"{self.url}/health", timeout=30) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def wait_until_working(self, timeout_s: float = 30.0) -> None:
        """Waits until the engine computes a request, as the server's metrics tell.

        They count a request some milliseconds before the engine's scheduler has it, and vLLM-Omni 0.30 loses an abort
        that comes in between: `SETTLE_S` passes after the count.

        Raises: `TimeoutError`.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            with DIRECT.open(f"{self.url}/metrics", timeout=30) as answer:
                if AT_WORK.search(answer.read()):
                    break
            if time.monotonic() > until_s:
                raise TimeoutError(f"the engine got no request in {timeout_s} s")
            time.sleep(0.05)
        time.sleep(SETTLE_S)

    def processes(self) -> list[OneProcess]:
        """The living processes that the server started."""
        return children_of(self.pid)

    def stop(self) -> int:
        """Asks the server to end, waits for that and returns its exit status; ends it by force after `EXIT_S`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_S)
        return self.kill()

    def kill_alone(self) -> int:
        """Ends the server's own process at once; returns its exit status."""
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()

    def kill(self) -> int:
        """Ends the server and all that it started at once; returns its exit status."""
        left = self.processes()
        status = self.kill_alone()
        for process in left:
            if process.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self._log.close()
        return status


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
