"""`python -O` takes away nothing: no check of the product is an assertion."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (
    "mcp_protocol",
    "handlers",
    "engine",
    "omni",
    "media",
    "sandbox",
    "http_client",
    "settings",
    "checkup",
    "omni_cpu",
)


def product() -> Iterator[tuple[Path, ast.AST]]:
    """All nodes of all files that are run to serve."""
    for path in (*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            yield path.relative_to(ROOT), node


def test_assertions_only_tell_types() -> None:
    """`assert x is not None` is for the type checker: whoever goes on with a None fails at once in any case."""
    wrong = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, node in product()
        if isinstance(node, ast.Assert) and not _is_not_none(node.test)
    ]
    assert wrong == []


def test_nothing_asks_whether_assertions_are_on() -> None:
    names = {path for path, node in product() if isinstance(node, ast.Name) and node.id == "__debug__"}
    assert names == set()


def _is_not_none(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name | ast.Attribute)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.IsNot)
        and ast.unparse(test.comparators[0]) == "None"
    )
