"""The rules of who may import whom, and that the way to the first answer stays light."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUND_FLOOR = ("mcp_protocol", "engine", "media", "omni")
OURS = {
    "vllm_server",
    "settings",
    "sandbox",
    "http_client",
    "client_configs",
    "command_line",
    "checkup",
    "handlers",
    *GROUND_FLOOR,
}
HEAVY = {"vllm", "torch", "transformers", "PIL", "httpx", "httpcore", "requests", "pydantic", "numpy", "pynvml", "av"}

FORBIDDEN = {
    "settings": (OURS | HEAVY) - {"settings"},
    "sandbox": (OURS | HEAVY) - {"sandbox", "settings"},
    "http_client": (OURS - {"http_client", "settings"}) | (HEAVY - {"httpx"}),
    "mcp_protocol": (OURS | HEAVY) - {"mcp_protocol", "sandbox"},
    "engine": OURS - {"engine", "sandbox", "http_client", "settings"},
    "omni": (OURS - {"omni", "media", "sandbox", "http_client", "settings"}) | (HEAVY - {"PIL", "httpx"}),
    "media": (OURS - {"media", "sandbox", "settings"}) | (HEAVY - {"PIL", "httpx", "httpcore", "numpy", "av"}),
    "handlers": {"vllm_server", "client_configs", "command_line", "checkup"} | HEAVY,
    "checkup": {"vllm_server", "client_configs"} | HEAVY,
}
"""What each room imports nowhere, not even inside a function. What only types need does not count."""


def sources(room: str) -> list[Path]:
    """A room's files."""
    return [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))


def imports(source: Path) -> Iterator[tuple[int, str]]:
    """All imports of a file as line and top-level module."""
    for node in _running(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: imports are absolute"
            yield node.lineno, (node.module or "").partition(".")[0]


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, except what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from _running(other)
            continue
        yield child
        yield from _running(child)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_go_down_only_and_rooms_do_not_know_each_other(room: str) -> None:
    assert sources(room)
    wrong = [
        f"{source.relative_to(ROOT)}:{line} imports {module}"
        for source in sources(room)
        for line, module in imports(source)
        if module in FORBIDDEN[room]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", [*GROUND_FLOOR, "sandbox", "http_client", "handlers", "checkup"])
def test_types_do_not_bring_in_what_the_rules_forbid(room: str) -> None:
    """Even for a type checker, nobody on the ground floor looks up or sideways."""
    wrong = []
    for source in sources(room):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = node.module.partition(".")[0]
                if module in FORBIDDEN[room] & OURS:
                    wrong.append(f"{source.relative_to(ROOT)}:{node.lineno} imports {module}")
    assert wrong == []


def test_only_settings_reads_the_environment_and_the_command_line() -> None:
    """The entry point hands both over; the engine's own processes know each other by a variable and arguments."""
    readers = {
        source.relative_to(ROOT).as_posix()
        for room in (*GROUND_FLOOR, "sandbox", "http_client", "handlers", "checkup", "settings")
        for source in sources(room)
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in ("os.environ.get", "os.getenv", "sys.argv", "os.environb")
    }
    assert readers <= {"settings/__init__.py", "engine/guard.py", "engine/processes.py", "sandbox/child.py"}


@pytest.mark.parametrize("room", [*GROUND_FLOOR, "sandbox", "http_client", "handlers", "checkup"])
def test_every_package_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text("utf-8")))


def test_entry_point_stays_a_map() -> None:
    assert len((ROOT / "vllm_server.py").read_text("utf-8").splitlines()) <= 100


PROBE = """
import json, os, sys
real_exit = os._exit
def leave(status):
    with open(os.environ["PROBE_FILE"], "w") as file:
        json.dump(sorted(sys.modules), file)
    real_exit(status)
os._exit = leave
sys.argv = ["vllm_server.py"]
sys.path.insert(0, os.getcwd())
import vllm_server
vllm_server.main()
"""


def modules_after(tmp_path: Path, *lines: str) -> tuple[list[dict[str, object]], set[str]]:
    """Runs a server in a fresh interpreter; returns its answers and the modules it had loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        input="".join(line + "\n" for line in lines),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PROBE_FILE": str(tmp_path / "modules")},
        capture_output=True,
        timeout=120,
        check=True,
        text=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return answers, set(json.loads((tmp_path / "modules").read_text()))


INITIALIZE = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
CALL = '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"model_info"}}'
RESOURCES = (
    '{"jsonrpc":"2.0","id":4,"method":"resources/list"}',
    '{"jsonrpc":"2.0","id":5,"method":"resources/templates/list"}',
    '{"jsonrpc":"2.0","id":6,"method":"resources/read","params":{"uri":"vllm://model"}}',
    '{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"vllm://docs/demo.png"}}',
    '{"jsonrpc":"2.0","id":8,"method":"prompts/list"}',
    '{"jsonrpc":"2.0","id":9,"method":"prompts/get","params":{"name":"describe_picture","arguments":{"picture":"/a"}}}',
)
LIST = '{"jsonrpc":"2.0","id":3,"method":"tools/list"}'


def test_initialize_is_answered_without_anything_heavy(tmp_path: Path) -> None:
    answers, modules = modules_after(tmp_path, INITIALIZE)
    assert "result" in answers[0]
    assert modules & HEAVY == set()
    slow = {"asyncio", "dataclasses", "logging", "argparse", "subprocess", "difflib", "traceback"}
    assert modules & slow == set()
    assert not any(
        module.startswith(("engine", "media", "omni", "sandbox.pool", "handlers.chat", "handlers.resources", "checkup"))
        for module in modules
    )
    assert modules & {"mcp_protocol.http", "uvicorn", "starlette", "http_front"} == set()
    assert modules & {"mcp_protocol.library", "mcp_protocol.catalogues", "mcp_protocol.subscriptions"} == set()


def test_tools_are_listed_and_asked_about_the_model_without_anything_heavy(tmp_path: Path) -> None:
    answers, modules = modules_after(tmp_path, LIST, CALL)
    assert ["result" in answer for answer in answers] == [True, True]
    assert modules & HEAVY == set()


def test_resources_and_prompts_are_served_without_anything_heavy(tmp_path: Path) -> None:
    answers, modules = modules_after(tmp_path, *RESOURCES)
    assert ["result" in answer for answer in answers] == [True] * len(RESOURCES)
    assert modules & HEAVY == set()
