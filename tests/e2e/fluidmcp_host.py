"""FluidMCP as the host of a server: the release 0.1.0 itself, and the way in which its main branch starts servers.

The release takes a package's folder (`.fmcp-packages/AUTHOR/NAME/VERSION/metadata.json`), main takes a file; what
stands in either is the same. Main has not been released, so `started_from_file` does what its source does.

The release is shut off from the machine's network:

FluidMCP listens on all interfaces and ends whatever else listens on its port, so it runs in a network namespace of
its own. Requests are made from threads that have entered that namespace.
"""

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli.clients.entry import this_server
from cli.clients.table import CLIENTS
from tests.e2e.environments import python_environment

PORT = 8090
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
CLONE_NEWNET = 0x40000000
# A new namespace has its loopback interface switched off; this switches it on (SIOCSIFFLAGS, IFF_UP) without needing
# `ip`, then becomes FluidMCP.
LAUNCHER = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))
os.execv(sys.argv[1], sys.argv[1:])
"""


HANDSHAKE = (
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2024-11-05",
            "capabilities": {"roots": {"listChanged": True}, "sampling": {}},
            "clientInfo": {"name": "fluidmcp-client", "version": "2.0.0"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
)
"""What main writes to a server before anything else."""
PLACEHOLDERS = ("none", "null", "test", "todo", "tbd", "example", "sample", "changeme")
"""Values that main takes for not filled in, and drops."""


def started_from_file(folder: Path, configuration: Mapping[str, Any]) -> subprocess.Popen[str]:
    """The server of a configuration file as main starts it: in a folder of its own below the current one, with the
    variables of the file that the environment does not have and that look like values, over text pipes."""
    entry = configuration["mcpServers"]["vllm"]
    own = folder / ".fmcp-packages" / ".temp_servers" / "vllm"
    own.mkdir(parents=True)
    (own / "metadata.json").write_text(json.dumps({"mcpServers": {"vllm": entry}}))
    kept = {name: value for name, value in entry["env"].items() if value and value.casefold() not in PLACEHOLDERS}
    return subprocess.Popen(
        [entry["command"], *entry["args"]],
        cwd=own,
        env={**kept, **os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )


def unavailable() -> str | None:
    """Why no network namespace can be made here, or None where one can."""
    unshare = shutil.which("unshare")
    if sys.platform != "linux" or unshare is None:
        return "network namespaces need Linux and the program unshare"
    run = subprocess.run([unshare, "--net", "true"], capture_output=True, text=True)
    return None if run.returncode == 0 else f"no network namespace may be made here: {run.stderr.strip()}"


class FluidMcpHost:
    """A running FluidMCP that has started `server` under the name `vllm`; stopped at the end of the `with` block.

    The server is configured as `--print-config fluidmcp` says. `folder` must be empty; FluidMCP's output goes to
    `fluidmcp.log` in it. `env` is added to the server's configuration, where it wins over the environment of the test.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._inside: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What FluidMCP has written so far."""
        return (self._folder / "fluidmcp.log").read_text(errors="replace")

    def start(self) -> None:
        """Starts FluidMCP and waits until it listens, which it does once the server has answered `initialize`."""
        python = python_environment("fluidmcp")
        package = self._folder / ".fmcp-packages" / "Me" / "vllm" / "0.1.0"
        package.mkdir(parents=True)
        (package / "metadata.json").write_text(CLIENTS["fluidmcp"].text(this_server(self._env)))
        fluidmcp = [str(python), str(python.parent / "fluidmcp"), "run", "Me/vllm@0.1.0", "--start-server"]
        with open(self._folder / "fluidmcp.log", "wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "--", str(python), "-c", LAUNCHER, *fluidmcp],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens(self._process)
        except BaseException:
            self.stop()
            raise

    def post(self, path: str, body: Any, timeout_s: float = 120.0) -> tuple[int, Any]:
        """POSTs `body` as JSON; returns the status and the decoded answer."""
        return self._request("POST", path, json.dumps(body).encode(), timeout_s)

    def get(self, path: str, timeout_s: float = 120.0) -> tuple[int, Any]:
        """GETs `path`; returns the status and the decoded answer."""
        return self._request("GET", path, None, timeout_s)

    def processes(self) -> list[int]:
        """The processes of FluidMCP's process group that still run, the server's and its children's among them."""
        return [] if self._process is None else _running_in_group(self._process.pid)

    def stop(self) -> list[int]:
        """Sends FluidMCP SIGTERM; it does not signal the server, which sees nothing but the end of its input.

        Returns the processes that were still there after STOP_TIMEOUT_S and had to be killed.
        """
        if self._inside is not None:
            self._inside.shutdown(cancel_futures=True)
            self._inside = None
        if self._process is None:
            return []
        self._process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.processes() and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(0.02)
        left = self.processes()
        if left:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        return left

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        own_namespace = os.stat("/proc/self/ns/net").st_ino
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            if self._inside is None:
                if os.stat(f"/proc/{process.pid}/ns/net").st_ino == own_namespace:
                    continue
                self._inside = ThreadPoolExecutor(4, "fluidmcp", _enter_network_of, (process.pid,))
            if self._inside.submit(_is_listening).result():
                return
        raise RuntimeError(f"FluidMCP does not listen on port {PORT}:\n{self.log}")

    def _request(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, Any]:
        assert self._inside is not None, "not started"
        return self._inside.submit(_request, method, path, body, timeout_s).result()


def _enter_network_of(pid: int) -> None:
    """Moves the calling thread, and no other, into the network namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def _is_listening() -> bool:
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=5).close()
    except OSError:
        return False
    return True


def _request(method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=timeout_s)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _running_in_group(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, process_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):  # it ended meanwhile
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(entry.name))
    return found
