"""The README's generated tables say what the code says."""

from __future__ import annotations

import importlib.util
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


def test_file_map_names_every_module() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for package in ("mcp_protocol", "handlers", "checkup", "engine", "media", "omni", "sandbox", "http_client"):
        for path in (ROOT / package).glob("*.py"):
            if path.name != "__init__.py":
                assert path.name in readme, path
