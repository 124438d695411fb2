"""The official Python SDK and FluidMCP as clients of the real server with the bundled model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import fluidmcp_host
from tests.e2e.environments import python_environment
from tests.e2e.fluidmcp_host import FluidMcpHost
from tests.e2e.pictures import asked, drawn, forms, image_part
from tests.e2e.server_process import LOAD_S, ROOT

Json = dict[str, Any]
SDK_PROGRAM = Path(__file__).parent / "clients" / "sdk2.py"
SERVER = str(ROOT / "vllm_server.py")


@pytest.mark.parametrize(
    ("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")]
)
def test_official_sdk_uses_everything_in_each_mode(
    mode: str, version: str, model: dict[str, str], tmp_path: Path
) -> None:
    picture = forms(drawn("blue", "circle", "red"), tmp_path)["path"]["path"]
    run = subprocess.run(
        [python_environment("mcp2"), SDK_PROGRAM, mode, sys.executable, SERVER, picture],
        input=json.dumps({**model, "PATH": os.environ["PATH"]}),
        capture_output=True,
        text=True,
        timeout=LOAD_S,
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["protocol_version"] == version
    assert seen["tools"][:3] == ["chat_completion", "chat_completion_batch", "model_info"]
    assert "red" in seen["text"].lower()
    assert seen["text"] == seen["described"]["text"] == "".join(seen["pieces"])
    assert "Marlowe" in seen["recalled"]
    assert seen["refused"][0] is True
    assert "top_p" in seen["refused"][1]
    assert seen["cancelled"] is True
    assert seen["after_cancel"] == "ready"


@pytest.fixture(scope="module")
def fluidmcp(model: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FluidMcpHost]:
    """FluidMCP 0.1.0 that holds the server as its own configuration example does."""
    if (reason := fluidmcp_host.unavailable()) is not None:
        pytest.skip(reason)
    example = json.loads((ROOT / "examples" / "vllm-config.json").read_text())["mcpServers"]["vllm"]["env"]
    with FluidMcpHost(tmp_path_factory.mktemp("fluidmcp"), {**example, **model}) as host:
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


def test_fluidmcp_gets_a_description_of_a_picture(fluidmcp: FluidMcpHost) -> None:
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


def test_nothing_is_left_when_fluidmcp_ends(model: dict[str, str], tmp_path: Path) -> None:
    if (reason := fluidmcp_host.unavailable()) is not None:
        pytest.skip(reason)
    host = FluidMcpHost(tmp_path, {**model})
    host.start()
    assert fluid_call(host, "model_info")["structuredContent"]["server_state"] == "unloaded"
    assert host.stop() == []
