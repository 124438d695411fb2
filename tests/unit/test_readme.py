"""The README's generated tables say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_generated_tables_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "scripts" / "readme_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert module.with_tables(readme) == readme, "run scripts/readme_tables.py"


def test_file_map_names_every_module() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for package in ("mcp_protocol", "handlers", "checkup", "engine", "media", "omni"):
        for path in (ROOT / package).glob("*.py"):
            if path.name != "__init__.py":
                assert path.name in readme, path
