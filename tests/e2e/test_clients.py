"""Official clients and FluidMCP with the real server and the bundled model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.clients.entry import this_server
from cli.clients.table import CLIENTS as HOSTS
from tests.e2e import fluidmcp_host
from tests.e2e.environments import python_environment
from tests.e2e.fluidmcp_host import FluidMcpHost
from tests.e2e.images import asked, drawn, forms, image_part
from tests.e2e.node_environments import node_environment
from tests.e2e.server_process import LOAD_S, ROOT

Json = dict[str, Any]
PROGRAMS = Path(__file__).parent / "clients"
SERVER = str(ROOT / "vllm_server.py")
MODERN, LEGACY = "2026-07-28", "2025-11-25"
CANCEL_MS = 1000
"""How long a call may wait for the one that was cancelled before it, whose 2,000 tokens take several times as long."""


@dataclass(frozen=True)
class Client:
    """An official client: its environment, the program that uses it, and the mode the program is to connect in."""

    environment: str
    program: str
    mode: str = "legacy"

    def command(self, folder: Path) -> list[str]:
        """How the program is run from the repository's root, without its arguments."""
        program = PROGRAMS / self.program
        if program.suffix == ".mjs":
            return node_environment(self.environment).program(program, folder)
        return [str(python_environment(self.environment)), "-m", f"tests.e2e.clients.{program.stem}"]


CLIENTS = {
    "Python SDK 1": (Client("mcp1", "sdk1.py"), LEGACY),
    "Python SDK 2, auto": (Client("mcp2", "sdk2.py", "auto"), MODERN),
    "Python SDK 2, legacy": (Client("mcp2", "sdk2.py", "legacy"), LEGACY),
    "Python SDK 2, pinned": (Client("mcp2", "sdk2.py", MODERN), MODERN),
    "fastmcp": (Client("fastmcp", "fastmcp_client.py", "auto"), MODERN),
    "TypeScript SDK 1": (Client("typescript1", "typescript1.mjs"), LEGACY),
    "TypeScript client 2, legacy": (Client("typescript2", "typescript2.mjs", "legacy"), LEGACY),
    "TypeScript client 2, auto": (Client("typescript2", "typescript2.mjs", "auto"), MODERN),
}


@pytest.mark.parametrize(("client", "version"), CLIENTS.values(), ids=CLIENTS)
def test_official_client_uses_everything(client: Client, version: str, model: dict[str, str], tmp_path: Path) -> None:
    image = forms(drawn("blue", "circle", "red"), tmp_path)["path"]["path"]
    run = subprocess.run(
        [*client.command(tmp_path), client.mode, sys.executable, SERVER, image],
        input=json.dumps({**model, "PATH": os.environ["PATH"]}),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LOAD_S,
    )
    assert run.returncode == 0, run.stderr
    assert_seen(json.loads(run.stdout), version, image)


def assert_seen(seen: Json, version: str, image: str) -> None:
    """What a client saw is what the server has, and what was to be stopped was stopped."""
    assert seen["protocol_version"] == version
    assert seen["tools"][:3] == ["chat_completion", "chat_completion_batch", "model_info"]
    assert "red" in seen["text"].lower()
    assert seen["text"] == seen["described"]["text"] == "".join(seen["pieces"])
    assert "Marlowe" in seen["recalled"]
    assert seen["refused"][0] is True
    assert "top_p" in seen["refused"][1]
    assert seen["cancelled"] is True
    assert seen["after_cancel"]["text"]
    assert seen["after_cancel"]["timings"]["queue_ms"] < CANCEL_MS
    assert seen["state"] == "ready"
    if "resources" in seen["capabilities"]:
        assert_resources(seen["resources"])
    if "prompts" in seen["capabilities"]:
        assert_prompts(seen["prompts"], image)


def assert_resources(seen: Json) -> None:
    """The list names resources, each once, and reading the first one gave its content."""
    assert len(set(seen["uris"])) == len(seen["uris"])
    assert [uri for uri, length in seen["read"] if length] == seen["uris"][:1]


def assert_prompts(seen: Json, image: str) -> None:
    """The list names prompts, each once, and the first one leads to the image it was given."""
    assert len(set(seen["names"])) == len(seen["names"]) > 0
    assert image in seen["text"]


@pytest.fixture(scope="module")
def fluidmcp(model: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FluidMcpHost]:
    """FluidMCP 0.1.0 that holds the server as its own configuration example does."""
    if (reason := fluidmcp_host.unavailable()) is not None:
        pytest.skip(reason)
    with FluidMcpHost(tmp_path_factory.mktemp("fluidmcp"), model) as host:
        while fluid_call(host, messages=[{"role": "user", "content": "Hello"}])["isError"]:
            pass  # "still loading" after 25 s, as the configuration says
        yield host


def fluid_call(host: FluidMcpHost, tool: str = "chat_completion", **arguments: Any) -> Json:
    """A call as FluidMCP's documentation makes it: without `jsonrpc` and without `id`."""
    status, answer = host.post("/vllm/mcp", {"method": "tools/call", "params": {"name": tool, "arguments": arguments}})
    assert status == 200, answer
    assert answer["id"] is None
    result: Json = answer["result"]
    return result


def test_fluidmcp_lists_the_tools(fluidmcp: FluidMcpHost) -> None:
    status, answer = fluidmcp.get("/vllm/mcp/tools/list")
    assert status == 200
    assert answer["result"]["tools"][0]["name"] == "chat_completion"


def test_fluidmcp_gets_a_description_of_an_image(fluidmcp: FluidMcpHost) -> None:
    messages = asked("What is in this image?", image_part(drawn("blue", "circle", "red")))
    result = fluid_call(fluidmcp, messages=messages, temperature=0)
    assert "red" in result["content"][0]["text"].lower()


def test_fluidmcp_holds_a_conversation(fluidmcp: FluidMcpHost) -> None:
    fluid_call(fluidmcp, session_id="user-123", messages=[{"role": "user", "content": "My name is Alice"}])
    question = [{"role": "user", "content": "What is my name?"}]
    result = fluid_call(fluidmcp, session_id="user-123", messages=question, temperature=0)
    assert "Alice" in result["content"][0]["text"]


def test_fluidmcps_own_call_endpoint_answers_in_step(fluidmcp: FluidMcpHost) -> None:
    """One line of ours too many, and every later answer would belong to the call before."""
    for words in ("Hello", "My name is Bob.", "Hello"):
        arguments = {"messages": [{"role": "user", "content": words}], "temperature": 0, "session_id": words}
        status, answer = fluidmcp.post("/vllm/mcp/tools/call", {"name": "chat_completion", "arguments": arguments})
        assert status == 200
        assert answer["result"]["structuredContent"]["session_id"] == words


def test_headers_that_fluidmcp_adds_are_dropped(fluidmcp: FluidMcpHost) -> None:
    result = fluid_call(fluidmcp, "model_info", headers={"authorization": "Bearer secret"})
    assert result["structuredContent"]["server_state"] == "ready"
    assert "secret" not in fluidmcp.log


def test_generation_beyond_the_gateways_patience_answers_in_time(fluidmcp: FluidMcpHost) -> None:
    arguments: Json = {"max_tokens": 3000, "min_tokens": 3000, "ignore_eos": True, "timeout_s": 1}
    result = fluid_call(fluidmcp, messages=[{"role": "user", "content": "Hello"}], **arguments)
    assert result["structuredContent"]["finish_reason"] == "timeout"


def test_fluidmcp_main_starts_the_server_from_the_file(tmp_path: Path) -> None:
    configuration = json.loads(HOSTS["fluidmcp"].text(this_server({})))
    configuration["mcpServers"]["vllm"]["env"].pop("VLLM_PRELOAD")
    headers = {"host": "127.0.0.1:8099", "authorization": "Bearer secret"}  # main adds those of the HTTP request
    call = {"method": "tools/call", "params": {"name": "model_info", "arguments": {"headers": headers}}}
    with fluidmcp_host.started_from_file(tmp_path, configuration) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in (*fluidmcp_host.HANDSHAKE, call):
            process.stdin.write(json.dumps(message) + "\n")
        process.stdin.close()
        initialized, answer = map(json.loads, process.stdout)
    assert initialized["id"] == 0
    assert initialized["result"]["serverInfo"]["name"] == "vllm-mcp-server"
    assert answer["result"]["structuredContent"]["server_state"] == "unloaded"
    assert process.returncode == 0


def test_nothing_is_left_when_fluidmcp_ends(model: dict[str, str], tmp_path: Path) -> None:
    if (reason := fluidmcp_host.unavailable()) is not None:
        pytest.skip(reason)
    host = FluidMcpHost(tmp_path, {**model, "VLLM_PRELOAD": "0"})
    host.start()
    assert fluid_call(host, "model_info")["structuredContent"]["server_state"] == "unloaded"
    assert host.stop() == []
