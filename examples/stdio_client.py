"""A minimal MCP client: a server as a child process, one line of JSON per message. Standard library only.

python examples/stdio_client.py                       lists the tools of this repository's server
python examples/stdio_client.py "What is your name?"  also prints the reply of its model while it is generated
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
SERVER = Path(__file__).resolve().parent.parent / "vllm_server.py"


class ToolFailed(Exception):
    """The tool's result has `isError`, or the server sent a JSON-RPC error; the text is the server's."""


class StdioClient:
    """Starts a server and uses MCP 2025-11-25; use it as a context manager.

    Arguments:
        command: the server's command.
        env: its environment; `None` means that of this process.
    """

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._next_id = 0

    def __enter__(self) -> StdioClient:
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the server's input, which makes it exit."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=10)

    def initialize(self) -> Json:
        """Sends `initialize`; returns its result."""
        client = {"name": "vllm-mcp-demo", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        answer = self.request("initialize", params)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def call_tool(self, name: str, arguments: Json, on_progress: Callable[[Json], None] | None = None) -> Json:
        """Calls a tool and returns its result; `on_progress` gets each progress notification's parameters.

        Raises: `ToolFailed`.
        """
        params: Json = {"name": name, "arguments": arguments}
        if on_progress is not None:
            params["_meta"] = {"progressToken": self._next_id}
        result = self.request("tools/call", params, on_progress)
        if result.get("isError"):
            raise ToolFailed(result["content"][0]["text"])
        return result

    def request(self, method: str, params: Json, on_progress: Callable[[Json], None] | None = None) -> Json:
        """Sends one request and reads messages until its response.

        Raises: `ToolFailed` for a JSON-RPC error, or when the server exits.
        """
        request_id, self._next_id = self._next_id, self._next_id + 1
        self._send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("method") == "notifications/progress" and on_progress is not None:
                on_progress(message["params"])
            elif message.get("id") == request_id and "error" in message:
                raise ToolFailed(message["error"]["message"])
            elif message.get("id") == request_id:
                result: Json = message["result"]
                return result

    def _send(self, message: Json) -> None:
        if self._process.stdin is None:
            raise ToolFailed("the server's input is closed")
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _receive(self) -> Json:
        line = self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            raise ToolFailed("the server exited without a response")
        message: Json = json.loads(line)
        return message


def main(arguments: Sequence[str]) -> int:
    """Lists the tools, and asks the model if there is a question; returns the exit status."""
    if set(arguments) & {"-h", "--help"}:
        print(__doc__)
        return 0
    try:
        with StdioClient([sys.executable, str(SERVER)]) as client:
            server = client.initialize()["serverInfo"]
            print(f"{server['name']} {server['version']} has these tools:")
            for tool in client.request("tools/list", {})["tools"]:
                print(f"  {tool['name']}: {tool['title']}")
            if arguments:
                print(f"\n> {' '.join(arguments)}")
                messages = [{"role": "user", "content": " ".join(arguments)}]
                client.call_tool("chat_completion", {"messages": messages}, _show_text)
                print()
    except ToolFailed as error:
        print(f"\nThe server reports: {error}", file=sys.stderr)
        return 1
    return 0


def _show_text(progress: Json) -> None:
    if progress["progress"] >= 1:  # below 1, the message is a phase of loading the model
        print(progress["message"], end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
