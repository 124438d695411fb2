"""Runs a vLLM-Omni server on this machine's CPU during a demo."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SCRIPT = str(Path(__file__).resolve().parent.parent / "scripts" / "omni-cpu")
START_S = 300.0


class OmniFailed(Exception):
    """The server could not be started; the text says why."""


@contextlib.contextmanager
def omni_url(log_file: Path, *options: str, variable: str = "OMNI_URL") -> Iterator[str]:
    """The URL of a vLLM-Omni server: from an environment variable, else of a server that is started and stopped here.

    Arguments:
        log_file: for the output of a started server.
        options: of `scripts/omni-cpu`, which starts the server.
        variable: the environment variable.

    Raises: `OmniFailed`.
    """
    if url := os.environ.get(variable):
        yield url
        return
    print("Setting up vLLM-Omni for this machine's CPU (this takes some minutes the first time) …", file=sys.stderr)
    if subprocess.run([SCRIPT, "--setup-only"], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
        raise OmniFailed("vLLM-Omni could not be set up; the lines above say why.")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with open(log_file, "wb") as log:
        command = [SCRIPT, "--port", str(port), *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_until_healthy(url, process, log_file)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    tail = "\n".join(log_file.read_text(errors="replace").splitlines()[-15:])
    raise OmniFailed(f"The vLLM-Omni server did not start. Its last lines:\n{tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
