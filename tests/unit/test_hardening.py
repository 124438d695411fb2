"""HARDENING.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_case_names_a_test_that_exists() -> None:
    text = (ROOT / "tests" / "HARDENING.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| case |")]
    assert len(rows) > 50
    for row in rows:
        assert row.split("|")[2].strip(), row
    missing = [
        f"{file}::{name}"
        for file, name in REFERENCE.findall(text)
        if not re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []
