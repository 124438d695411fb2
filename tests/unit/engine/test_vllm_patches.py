"""Each patch of vLLM has its test, and is described."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATCHES = [
    function
    for path in sorted((ROOT / "engine" / "vllm_patches").glob("*.py"))
    for function in ast.parse(path.read_text("utf-8")).body
    if isinstance(function, ast.FunctionDef) and not function.name.startswith("_")
]


def test_every_patch_has_a_test_that_says_when_it_is_no_longer_needed() -> None:
    tests = (ROOT / "tests" / "e2e" / "test_vllm_patches.py").read_text("utf-8")
    assert PATCHES
    assert [patch.name for patch in PATCHES if f"def test_{patch.name}(" not in tests] == []
    assert [patch.name for patch in PATCHES if f"`{patch.name}` can go" not in tests] == []


def test_every_patch_names_the_release_it_was_made_for() -> None:
    assert [patch.name for patch in PATCHES if "vLLM 0." not in (ast.get_docstring(patch) or "")] == []
