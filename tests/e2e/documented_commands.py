"""The commands of the documents that are checked instead of run, with the reason for each."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from omni.sleep import STAGES
from settings import COMMAND, SERVER_VERSION
from tests.documents import ROOT, Block
from tests.e2e import model_server
from tests.e2e.environments import PINS, python_environment
from tests.e2e.server_process import LOAD_S, ServerProcess

Json = dict[str, Any]


@dataclass(frozen=True)
class NotRun:
    """Commands that are checked instead of run.

    Arguments:
        pattern: what such a command begins with.
        reason: why it is not run, and which test runs the same where one does.
        check: fails when the command cannot work; gets the block and the command.
        is_script: False where the block is no shell script; then the check gets all of it.
    """

    pattern: str
    reason: str
    check: Callable[[Block, str], None]
    is_script: bool = True


def takes_options(*help_command: str) -> Callable[[Block, str], None]:
    """A check by a program's help: it has every option of the command."""

    def check(block: Block, command: str) -> None:
        words = [sys.executable if word == "python" else word for word in help_command]
        shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LOAD_S)
        assert shown.returncode == 0, shown.stderr
        for option in options_of(command):
            assert option in shown.stdout, f"{block.place}: {help_command} has no {option}"

    return check


def options_of(command: str) -> list[str]:
    return [word.partition("=")[0] for word in shlex.split(command, comments=True) if word.startswith("--")]


def is_in_the_script(block: Block, command: str) -> None:
    script = ROOT / command.split()[0]
    assert os.access(script, os.X_OK), f"{block.place}: {command}"
    for option in options_of(command):
        assert option in script.read_text(), f"{block.place}: {script} has no {option}"


def is_beside_the_document(block: Block, command: str) -> None:
    ast.parse((block.document.parent / command.split()[1]).read_text())


def has_a_diffusers_model(block: Block, command: str) -> None:
    assert (ROOT / shlex.split(command)[2] / "model_index.json").exists(), block.place


def is_what_tests_give_vllm(block: Block, command: str) -> None:
    given = {argument.partition("=")[0] for argument in model_server.ARGUMENTS}
    assert set(options_of(command)) <= given, block.place


def is_a_pinned_requirement(block: Block, command: str) -> None:
    assert tuple(command.split()[2:]) == PINS["fluidmcp"], block.place


def installs_the_package(block: Block, command: str) -> None:
    """The package is named as it will be published, or is a clone or a wheel; what follows its command are options."""
    words = shlex.split(command, comments=True)
    what = next(word for word in words if word.startswith((COMMAND, ".")))
    name, _, extra = what.rstrip("]").partition("[")
    wheel = f"./dist/mcp_server_vllm-{SERVER_VERSION}-py3-none-any.whl"
    assert name in (COMMAND, ".", wheel), f"{block.place}: {what}"
    assert extra in ("", "media"), f"{block.place}: {what}"
    if words[0] == "uvx":
        options = shlex.join(words[words.index(COMMAND) + 1 :])
        takes_options("python", "vllm_server.py", "--help")(block, options)


def adds_an_entry(block: Block, command: str) -> None:
    """The same entry can be printed."""
    options = shlex.split(command.partition("--install")[2])
    words = [sys.executable, "vllm_server.py", "--print-config", *options]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LOAD_S)
    assert (shown.returncode, shown.stderr) == (0, ""), f"{block.place}: {shown.stderr}"


def is_taken_by_fluidmcp(block: Block, command: str) -> None:
    takes_options(str(python_environment("fluidmcp").with_name("fluidmcp")), "run", "--help")(block, command)


def posts_a_call(block: Block, command: str) -> None:
    words = shlex.split(command)
    assert_call_fits(json.loads(words[words.index("-d") + 1])["params"])


def wakes_up_all_stages(block: Block, command: str) -> None:
    words = shlex.split(command)
    assert json.loads(words[words.index("-d") + 1]) == {"stage_ids": STAGES}, block.place


def is_in_the_compose_files(block: Block, command: str) -> None:
    words = shlex.split(command, comments=True)
    files = [words[i + 1] for i, word in enumerate(words) if word == "-f"] or ["docker-compose.yml"]
    services = [service for name in files for service in yaml.safe_load((ROOT / name).read_text())["services"].values()]
    profiles = {profile for service in services for profile in service.get("profiles", [])}
    assert {words[i + 1] for i, word in enumerate(words) if word == "--profile"} <= profiles, block.place


def ends_in_options_of_the_server(block: Block, command: str) -> None:
    of_server = command.rpartition(" vllm-mcp-server")[2]
    takes_options("python", "vllm_server.py", "--help")(block, of_server)


def is_taken_by_the_engine(block: Block, text: str) -> None:
    (vllm,) = find_spec("vllm").submodule_search_locations  # type: ignore[union-attr,misc]
    fields = Path(vllm, "engine", "arg_utils.py").read_text()
    names = [key.arg for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) for key in node.keywords]
    assert [name for name in names if not re.search(rf"^    {name}:", fields, re.MULTILINE)] == [], block.place


def is_a_diagram(block: Block, text: str) -> None:
    assert "→" in text, block.place


OWN_FILES = "changes the user's files; test_client_entries.py runs it in a home folder of its own"
NOT_RUN = (
    NotRun("git clone REPOSITORY_URL ", "the address is a placeholder", lambda block, command: None),
    NotRun("scripts/demo", "test_examples.py runs it with real servers", takes_options("scripts/demo", "--help")),
    NotRun("scripts/test", "it is this run", is_in_the_script),
    NotRun("scripts/bench", "measures for up to hours, alone", takes_options("python", "-m", "benchmarks", "--help")),
    NotRun("python -m tests.fuzz", "runs for up to an hour; test_fuzz.py runs a part", lambda block, command: (
        takes_options(*command.split()[:3], "--help")(block, command)
    )),
    NotRun("vllm serve MODEL", "a placeholder; test_remote.py starts such a server", is_what_tests_give_vllm),
    NotRun("vllm-omni serve", "needs .venv-omni; test_omni_cpu.py serves the same model", has_a_diffusers_model),
    NotRun("python train", "trains for hours", is_beside_the_document),
    NotRun("scripts/omni-cpu", "test_omni_cpu.py starts it", takes_options("scripts/omni-cpu", "--help")),
    NotRun("docker compose", "CI has no Docker; test_container.py does what the files say", is_in_the_compose_files),
    NotRun("docker build", "CI has no Docker; test_container.py does what the file says", lambda block, command: None),
    NotRun("docker run", "CI has no Docker", ends_in_options_of_the_server),
    NotRun("mcp-server-vllm --install-engine", "installs gigabytes; test_light.py does the same", takes_options(
        "python", "vllm_server.py", "--help"
    )),
    NotRun("uvx ", "not published; test_package.py starts a wheel with uvx", installs_the_package),
    NotRun("uv tool install ", "not published; test_package.py installs a wheel", installs_the_package),
    NotRun("pip install mcp-server-vllm", "not published; test_package.py installs a wheel", installs_the_package),
    NotRun(".venv/bin/python vllm_server.py --install ", OWN_FILES, adds_an_entry),
    NotRun("mcp-server-vllm --install ", OWN_FILES, adds_an_entry),
    NotRun("pip install fluidmcp", "test_clients.py installs the same", is_a_pinned_requirement),
    NotRun("fluidmcp run", "test_clients.py starts it", is_taken_by_fluidmcp),
    NotRun("curl http://localhost:8090/vllm/mcp", "FluidMCP's; test_clients.py posts such calls", posts_a_call),
    NotRun("curl -X POST http://localhost:6655/v1/omni", "test_shared_gpu.py sends the same", wakes_up_all_stages),
    NotRun("from vllm import LLM", "Python; the server loads this model", is_taken_by_the_engine, False),
    NotRun("unloaded → ", "a diagram", is_a_diagram, False),
)  # fmt: skip
INTERNAL = ("python -m tests.fuzz", "scripts/bench", "scripts/test")
"""Programs for those who work on the project: a document may name them or not."""


def reasons(text: str) -> list[NotRun]:
    return [entry for entry in NOT_RUN if text.startswith(entry.pattern)]


def commands_of(block: Block) -> list[str]:
    """The commands of a block; the whole text where it is no shell script."""
    return [block.text] if any(not entry.is_script for entry in reasons(block.text)) else block.commands()


def tool_schemas() -> dict[str, Json]:
    with ServerProcess() as server:
        tools = server.request("tools/list")["result"]["tools"]
    return {tool["name"]: tool["inputSchema"] for tool in tools}


def assert_call_fits(call: Json, known: dict[str, Json] | None = None) -> None:
    """The tool exists and its schema takes the arguments; schemas do not show that null is taken too."""
    jsonschema.validate(without_null(call["arguments"]), (known or tool_schemas())[call["name"]])


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_null(item) for name, item in value.items() if item is not None}
    return [without_null(item) for item in value if item is not None] if isinstance(value, list) else value
