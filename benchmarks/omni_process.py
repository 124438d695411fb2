"""Runs a vLLM-Omni server on this machine's CPU during a benchmark."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import httpx

from benchmarks.contenders import ROOT
from benchmarks.pipe_server import ServerFailed

START_S = 300.0


@contextlib.contextmanager
def omni_server(*options: str) -> Iterator[str]:
    """The address of a server that `scripts/omni-cpu` starts with these options.

    Raises: `ServerFailed` when it does not start.
    """
    script = str(ROOT / "scripts" / "omni-cpu")
    if subprocess.run([script, "--setup-only"], stdin=subprocess.DEVNULL).returncode:
        raise ServerFailed("vLLM-Omni could not be set up")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log_fd = os.memfd_create("log")
    command = [script, "--port", str(port), *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log_fd, stderr=log_fd)
    try:
        until_s = time.monotonic() + START_S
        while not _is_healthy(url):
            if process.poll() is not None or time.monotonic() > until_s:
                raise ServerFailed(os.pread(log_fd, 1 << 20, 0)[-3000:].decode(errors="replace"))
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        os.close(log_fd)


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
