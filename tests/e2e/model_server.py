"""A real vLLM server of the OpenAI API, with the bundled model on the CPU.

with ModelServer() as server:
    ServerProcess({"VLLM_BASE_URL": server.url, "VLLM_REMOTE_API_KEY": ModelServer.KEY})
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from tests.e2e.processes import children_of

START_S = 300.0
"""How long it may take to answer: half a minute on an idle machine."""
EXIT_S = 20.0
ARGUMENTS = (
    "--enforce-eager",
    "--enable-prompt-tokens-details",
    "--max-num-seqs=32",
    '--limit-mm-per-prompt={"image": 4}',
    '--structured-outputs-config={"backend": "guidance", "disable_any_whitespace": true}',
)
"""What the engine inside our own server is given too, so that both answer alike; and cached tokens are told."""
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"}


class ModelServer:
    """One server, from its start to its end; `with` waits until it answers. It asks for the key `KEY`.

    Arguments: the model's folder.
    """

    KEY: ClassVar[str] = "sk-e2e-0123456789"
    NAME: ClassVar[str] = "demo-vlm"

    def __init__(self, folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the server)
        module = ("-m", "vllm.entrypoints.openai.api_server")
        where = ("--host=127.0.0.1", f"--port={port}", f"--api-key={self.KEY}")
        model = (f"--model={folder}", f"--served-model-name={self.NAME}")
        self.process = subprocess.Popen(
            [sys.executable, *module, *model, *where, *ARGUMENTS],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "HF_"))}
            | ENVIRONMENT,
        )

    def __enter__(self) -> ModelServer:
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def n_running(self) -> int:
        """The number of running requests, from its metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            found = re.search(r"^vllm:num_requests_running\{.*\} ([\d.]+)$", answer.read().decode(), re.MULTILINE)
        assert found
        return int(float(found[1]))

    def _wait_until_ready(self) -> None:
        until_s = time.monotonic() + START_S
        while not self._is_healthy():
            assert self.process.poll() is None, f"the server ended:\n{self._tail()}"
            assert time.monotonic() < until_s, f"the server did not answer in {START_S} s:\n{self._tail()}"
            time.sleep(0.2)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=30) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def _tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), 4000, max(0, size - 4000)).decode("utf-8", "replace")

    def _end(self) -> None:
        """Ends it and all that it started: by SIGTERM, then by SIGKILL."""
        left = children_of(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(EXIT_S)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for process in left:
            if process.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self._log.close()
