"""Who may import whom, no circles between modules or packages, and a light way to the first answer."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BESIDE = {"tests", "deploy", "benchmarks", "examples", "models", "omni_cpu", "release", "scripts"}
"""Folders with Python files that are not part of the running server."""
GROUND_FLOOR = {"mcp_protocol", "engine", "omni", "media"}
NEUTRAL = {"operating_system", "settings", "sandbox", "http_client"}

MAY_IMPORT = {
    "operating_system": set(),
    "settings": {"operating_system"},
    "sandbox": {"operating_system", "settings"},
    "http_client": {"operating_system", "settings"},
    "media": {"operating_system", "sandbox", "settings"},
    "mcp_protocol": {"operating_system", "sandbox", "settings"},
    "engine": NEUTRAL,
    "omni": {"media", *NEUTRAL},
    "handlers": GROUND_FLOOR | NEUTRAL,
    "cli": {"handlers"} | GROUND_FLOOR | NEUTRAL,
    "vllm_server": {"cli", "handlers"} | GROUND_FLOOR | NEUTRAL,
    "mcp_server_vllm": {"vllm_server"},
}
"""Every package with those below it that it may import: with the types alone, and inside functions too."""

HEAVY = {"vllm", "torch", "transformers", "PIL", "httpx", "httpcore", "requests", "pydantic", "numpy", "pynvml", "av"}
HEAVY_ALLOWED = {
    "engine": HEAVY,
    "omni": {"PIL", "httpx"},
    "media": {"PIL", "httpx", "httpcore", "numpy", "av"},
    "http_client": {"httpx"},
}
"""What may be imported of the heavy packages, and by whom; by all others only for types."""

MAX_LINES, MAX_MODULES = 350, 16


def modules() -> dict[str, Path]:
    """Every module of the running server by its dotted name; packages by theirs."""
    found = {"vllm_server": ROOT / "vllm_server.py"}
    for folder in sorted(path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if folder.name not in BESIDE:
            for path in sorted(folder.rglob("*.py")):
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()
PACKAGES = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def imported(path: Path, with_types: bool = True) -> Iterator[str]:
    """What a file imports, anywhere in it: modules of ours by their full names, packages of others."""
    for node in statements(parsed(path), with_types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def statements(node: ast.AST, with_types: bool = True) -> Iterator[ast.AST]:
    """Yields all statements below a node, and their direct parts."""
    for child in ast.iter_child_nodes(node):
        if not with_types and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from statements(child, with_types)


IMPORTS = {name: {other for other in imported(path) if other in MODULES} for name, path in MODULES.items()}


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """A way that leads back to where it began; empty where there is none."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in done:
            for other in sorted(graph.get(name, ())):
                if found := visit(other, [*way, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def room_of(module: str) -> str:
    """The package in which a module lies, its first two names at most: `engine.local`."""
    package = module if module in PACKAGES else module.rpartition(".")[0] or module
    return ".".join(package.split(".")[:2])


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_circle_between_modules() -> None:
    assert circle_in(IMPORTS) == []


@pytest.mark.parametrize("package", sorted({name.partition(".")[0] for name in PACKAGES}))
def test_no_circle_between_the_rooms_of_a_package(package: str) -> None:
    """Modules that lie beside the rooms do not count: an interface is below all of them, a table above."""
    graph: dict[str, set[str]] = {}
    for module, others in IMPORTS.items():
        room = room_of(module)
        if room.startswith(package + "."):
            rooms = {room_of(other) for other in others} - {room}
            graph.setdefault(room, set()).update(other for other in rooms if other.startswith(package + "."))
    assert circle_in(graph) == []


def test_every_package_has_its_rank() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_down_only(package: str) -> None:
    """Also where only a type is wanted."""
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if module.partition(".")[0] == package and other.partition(".")[0] not in {package, *MAY_IMPORT[package]}
    ]
    assert wrong == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_heavy_packages_are_imported_only_where_they_are_needed(package: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if module.partition(".")[0] == package
        for name in imported(path, with_types=False)
        if name.partition(".")[0] in HEAVY - HEAVY_ALLOWED.get(package, set())
    ]
    assert wrong == []


def test_only_settings_reads_the_environment_and_the_command_line() -> None:
    """The entry point hands both over; the engine's own processes know each other by a variable and arguments."""
    reads = ("os.environ.get", "os.getenv", "sys.argv", "os.environb")
    readers = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in reads
    }
    assert readers <= {
        "vllm_server",
        "cli.interpreter",
        "cli.options",
        "mcp_server_vllm.__main__",
        "settings",
        "engine.local.reaper",
        "engine.local.child_processes",
        "sandbox.child",
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_for(package: str) -> None:
    assert ast.get_docstring(parsed(MODULES[package]))


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


@pytest.mark.parametrize("lines", [(INITIALIZE,), (INITIALIZE, LIST)], ids=["initialize", "tools/list"])
def test_initialize_and_the_list_of_tools_are_answered_without_anything_slow(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    answers, modules = modules_after(tmp_path, *lines)
    assert ["result" in answer for answer in answers] == [True] * len(lines)
    assert modules & HEAVY == set()
    slow = {"asyncio", "dataclasses", "logging", "argparse", "subprocess", "difflib", "traceback"}
    assert modules & slow == set()
    later = (
        *("engine", "media", "omni", "sandbox.pool", "cli.check", "mcp_protocol.tools.schema"),
        *("handlers.chat", "handlers.resources", "handlers.tool_table"),
    )
    assert not any(module.startswith(later) for module in modules)
    assert modules & {"mcp_protocol.http", "uvicorn", "starlette", "mcp_protocol.http.front"} == set()
    assert (
        modules
        & {"mcp_protocol.resources.methods", "mcp_protocol.resources.registry", "mcp_protocol.resources.subscriptions"}
        == set()
    )


def test_tools_are_listed_and_asked_about_the_model_without_anything_heavy(tmp_path: Path) -> None:
    answers, modules = modules_after(tmp_path, LIST, CALL)
    assert ["result" in answer for answer in answers] == [True, True]
    assert modules & HEAVY == set()
    assert "handlers.tool_table" in modules, "a process that runs out of open files later could import no other tool"


def test_resources_and_prompts_are_served_without_anything_heavy(tmp_path: Path) -> None:
    answers, modules = modules_after(tmp_path, *RESOURCES)
    assert ["result" in answer for answer in answers] == [True] * len(RESOURCES)
    assert modules & HEAVY == set()


def test_no_module_and_no_room_is_too_large() -> None:
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
    rooms = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {room.name: count for room, count in rooms.items() if count > MAX_MODULES} == {}
