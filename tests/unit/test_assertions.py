"""`python -O` takes away nothing: no check of the product is an assertion."""

from __future__ import annotations

import ast

from tests.unit.test_layers import MAY_IMPORT, ROOT, parsed, statements

PACKAGES = (*MAY_IMPORT, "omni_cpu")


FILES = [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
"""All files that are run to serve."""


def test_assertions_only_tell_types() -> None:
    """`assert x is not None` is for the type checker: whoever goes on with a None fails at once in any case. So is
    `assert sys.platform == …` in a module for one system, whose calls exist on no other."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in FILES
        for node in statements(parsed(path))
        if isinstance(node, ast.Assert) and not (_is_not_none(node.test) or _names_a_system(node.test))
    ]
    assert wrong == []


def test_nothing_asks_whether_assertions_are_on() -> None:
    assert [str(path) for path in FILES if b"__debug__" in path.read_bytes()] == []


def _is_not_none(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name | ast.Attribute)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.IsNot)
        and ast.unparse(test.comparators[0]) == "None"
    )


def _names_a_system(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and ast.unparse(test.left) == "sys.platform"
