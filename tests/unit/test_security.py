"""SECURITY.md speaks of what there is."""

from __future__ import annotations

import re
from pathlib import Path

import settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_settings_that_it_names_exist() -> None:
    named = set(re.findall(r"\b(?:VLLM|OMNI)_[A-Z_]+[A-Z]\b", TEXT))
    assert len(named) > 10
    assert named - {row.variable for row in settings.rows()} == set()


def test_files_that_it_names_exist() -> None:
    named = re.findall(r"`((?:scripts|deploy|tests)/[\w./-]+)`", TEXT)
    assert len(named) >= 3
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_listed_vulnerabilities_are_found_by_the_audit() -> None:
    """`scripts/audit` passes over the rows of the table, each of which says why."""
    rows = TEXT.partition("\n## Known vulnerabilities\n")[2].partition("|---|---|---|\n")[2].splitlines()
    assert rows
    for row in rows:
        assert re.fullmatch(r"\| `(CVE|GHSA|PYSEC)-[\w-]+` \| .+ \| .+ \|", row), row
