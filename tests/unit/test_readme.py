"""The README's generated tables say what the code says."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import pytest

import settings
from settings import env_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that writes the tables."""
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "scripts" / "readme_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_tables_are_up_to_date(generator: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert generator.with_tables(readme) == readme, "run scripts/readme_tables.py"


def test_example_of_an_env_file_is_up_to_date(generator: ModuleType) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert generator.env_example() == example, "run scripts/readme_tables.py"


def test_example_of_an_env_file_has_every_setting_and_sets_none() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert env_file.parsed(example) == {}
    named = {line[1:-1] for line in example.splitlines() if line.startswith("#") and line.endswith("=")}
    assert named == {row.variable for row in settings.rows()} - {"VLLM_ENV_FILE"}
    uncommented = "\n".join(line.removeprefix("#") if line[:2] != "# " else line for line in example.splitlines())
    assert set(env_file.parsed(uncommented)) == named


ROOMS = ("settings", "http_client", "sandbox", "mcp_protocol", "handlers", "checkup", "engine", "omni", "media")


def file_map() -> dict[str, list[str]]:
    """The files that the map names for each room, a file in a folder below the room as `folder/name.py`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = readme.partition("## How it is built")[2].split("```")[1].strip().splitlines()
    found: dict[str, list[str]] = {}
    room = folder = ""
    for line in lines:
        depth = len(line) - len(line.lstrip())
        named = list(itertools.takewhile(lambda word: word.endswith((".py", "/")), line.split()))
        if depth == 0:
            room = named[0].rstrip("/") if named and named[0].endswith("/") else ""
        if depth <= 2:
            folder = named[0] if depth and named and named[0].endswith("/") else ""
        if room and depth:
            found.setdefault(room, []).extend((folder if depth > 2 else "") + name for name in named)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_file_map_names_every_module(room: str) -> None:
    """A folder below a room is named as a whole, or file by file."""
    named = file_map()[room]
    assert len(named) == len(set(named))
    paths = [path.relative_to(ROOT / room) for path in (ROOT / room).rglob("*.py") if path.name != "__init__.py"]
    file_by_file = {folder for folder, _, name in (entry.rpartition("/") for entry in named) if name}
    expected = {
        f"{path.parent}/" if str(path.parent) not in (".", *file_by_file) else path.as_posix() for path in paths
    }
    assert expected | {f"{folder}/" for folder in file_by_file if folder} == set(named)
