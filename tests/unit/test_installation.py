"""`settings.installation`: a clone has the repository's scripts, an installed package has none and names none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import COMMAND, DEMO_MODEL, ROOT, in_clone, installation, is_clone, program
from tests.unit.test_layers import MODULES

KNOWS = {"is_clone", "in_clone"}


def test_this_is_a_clone() -> None:
    assert is_clone()
    assert (program(), in_clone("here")) == ("vllm_server.py", "here")
    assert (Path(ROOT) / program()).is_file()
    assert (Path(DEMO_MODEL) / "config.json").is_file()


def test_a_folder_without_the_scripts_is_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "ROOT", str(tmp_path))
    assert not is_clone()
    assert (program(), in_clone("here")) == (COMMAND, "")


def texts_without_a_condition(tree: ast.Module) -> Iterator[str]:
    """The strings that name a script, in statements or functions that do not ask whether this is a clone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Assign | ast.AnnAssign):
            names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            if names & KNOWS:
                continue
            docstring = ast.get_docstring(node, clean=False) if isinstance(node, ast.FunctionDef) else None
            strings = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)]
            yield from (text for text in strings if isinstance(text, str) and "scripts/" in text and text != docstring)


def test_text_without_a_condition_is_found() -> None:
    texts = 'A = "scripts/a"\ndef f():\n  "scripts/b"\n  return "Run scripts/c."\nB = in_clone("scripts/d")\n'
    assert list(texts_without_a_condition(ast.parse(texts))) == ["scripts/a", "Run scripts/c."]


def test_only_a_clone_names_scripts() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): texts
        for path in MODULES.values()
        if (texts := list(texts_without_a_condition(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == {}
