"""`python -m omni_cpu.serve MODEL --host HOST --port PORT [vllm-omni's arguments]` serves a model.

It runs `vllm-omni serve MODEL --omni` in this process, so signals reach the server. It also prints a line when the
server is ready, deletes the folder of videos at the end, and logs only errors.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEFAULTS = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_COLOR": "0",
    "VLLM_DISABLE_LOG_LOGO": "1",
    "VLLM_NO_USAGE_STATS": "1",  # no usage reports to vLLM's authors
    "TORCH_LOGS": "-torch._library",  # no warning about missing Triton
    "TOKENIZERS_PARALLELISM": "false",
    # Of the process that removes shared memory after a server was killed.
    "PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker",
    # The cores are shared with the chat engine.
    "OMP_WAIT_POLICY": "passive",  # torch's idle threads sleep instead of spinning
    "VLLM_OMNI_EVENT_DRIVEN_ORCH": "1",  # an idle server polls in fewer places
    "GLOO_SOCKET_IFNAME": "lo",  # torch's processes connect over the loopback interface only
}
"""Environment variables that are set unless the caller has set them."""
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""safetensors' names of weight types, and vLLM-Omni's."""
POLL_S = 0.2
OUTPUT_POLL_S = 0.02
"""How often vLLM-Omni looks for finished images. Its own 0.001 s takes up to a tenth of a core of an idle server."""
SHUTDOWN_S = 1.2
"""How long the server may take to exit; an idle one takes one second."""


def main() -> None:
    """Serves until it gets a signal."""
    started_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="omni-cpu", add_help=False, allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    ours, theirs = parser.parse_known_args()
    _refuse_taken_port(ours.host, ours.port)
    set_defaults(DEFAULTS)
    if os.path.isdir(ours.model):
        set_defaults({"HF_HUB_OFFLINE": "1"})
    with tempfile.TemporaryDirectory(prefix="omni-cpu-videos-") as videos:
        # Uploaded voices would outlive the server in the user's cache folder.
        voices = os.path.join(videos, "voices")
        set_defaults({"VLLM_OMNI_SERVER_STORAGE__PATH": videos, "SPEAKER_SAMPLES_DIR": voices})
        _end_promptly(videos)
        _announce_when_ready(ours.host, ours.port, started_s)
        _poll_less_often()
        sys.argv = [
            *("vllm-omni", "serve", ours.model, "--omni", "--host", ours.host, "--port", str(ours.port)),
            *("--disable-uvicorn-access-log", "--uvicorn-log-level", "warning"),
            *_dtype_arguments(ours.model, theirs),
            *_executor_arguments(ours.model, theirs),
            *theirs,
        ]
        _entry_point()


def set_defaults(variables: Mapping[str, str]) -> None:
    """Sets the environment variables that are not set."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _entry_point() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="vllm-omni")
    command.load()()


def _refuse_taken_port(host: str, port: int) -> None:
    """Exits at once if the port is in use; the server would do so after ten seconds of imports."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"omni-cpu: cannot listen at {host}, port {port}: {error.strerror}. Choose another with --port.")


def _dtype_arguments(model: str, given: Sequence[str]) -> list[str]:
    """The type of a folder's weights as an argument: vLLM-Omni assumes bfloat16, and fails with other types."""
    if any(argument.partition("=")[0] == "--dtype" for argument in given):
        return []
    for file in sorted(Path(model, "transformer").glob("*.safetensors")):
        with file.open("rb") as weights:
            header_bytes = int.from_bytes(weights.read(8), "little")
            if header_bytes > file.stat().st_size:  # not a safetensors file; vLLM-Omni reports it
                return []
            header = json.loads(weights.read(header_bytes))
        stored = {tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"}
        if len(stored) == 1 and (dtype := DTYPES.get(stored.pop())):
            return ["--dtype", dtype]
    return []


def _executor_arguments(model: str, given: Sequence[str]) -> list[str]:
    """Keeps OmniVoice in this process, as an argument: the process that vLLM-Omni would start needs a GPU."""
    if any(argument.partition("=")[0] == "--distributed-executor-backend" for argument in given):
        return []
    config = Path(model, "config.json")
    if config.is_file():
        is_omnivoice = json.loads(config.read_text("utf-8")).get("model_type") == "omnivoice"
    else:
        is_omnivoice = "omnivoice" in model.casefold() and not os.path.isdir(model)
    return ["--distributed-executor-backend", "uni"] if is_omnivoice else []


def _end_promptly(videos: str) -> None:
    """Makes signals end this process: at once while it loads, and within `SHUTDOWN_S` while it serves. vLLM-Omni
    handles signals itself while it serves, and would finish the running images first."""

    def end(status: int) -> None:
        shutil.rmtree(videos, ignore_errors=True)
        os._exit(status)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: end(128 + number))
    from vllm_omni.entrypoints.async_omni import AsyncOmni

    shut_down = AsyncOmni.shutdown

    def shut_down_in_time(*arguments: Any, **options: Any) -> Any:
        timer = threading.Timer(SHUTDOWN_S, end, (0,))
        timer.daemon = True
        timer.start()
        return shut_down(*arguments, **options)

    AsyncOmni.shutdown = shut_down_in_time


def _poll_less_often() -> None:
    """Makes the loop of vLLM-Omni 0.30 that distributes outputs wait for `OUTPUT_POLL_S` when there is none."""
    from vllm_omni.engine import orchestrator

    class Asyncio(types.ModuleType):
        """`asyncio` for that module alone."""

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, delay_s: float) -> None:
            await asyncio.sleep(OUTPUT_POLL_S if delay_s else 0)

    orchestrator.asyncio = Asyncio("asyncio")


def _announce_when_ready(host: str, port: int, started_s: float) -> None:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"

    def announce() -> None:
        while not _healthy(url):
            time.sleep(POLL_S)
        took_s = time.monotonic() - started_s
        text = f"omni-cpu: ready at {url} after {took_s:.0f} s. For the MCP server set OMNI_URL={url}\n"
        # Not with sys.stdout: vLLM-Omni prefixes every line there with the process's name.
        os.write(1, text.encode())

    threading.Thread(target=announce, name="announce", daemon=True).start()


def _healthy(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores proxies of the environment
    try:
        with opener.open(f"{url}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    main()
