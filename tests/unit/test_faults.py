"""The table of faults names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.faults import FAULTS

ROOT = Path(__file__).parents[2]


def test_every_fault_names_tests_that_exist() -> None:
    assert len({fault.injected for fault in FAULTS}) == len(FAULTS)
    missing = []
    for fault in FAULTS:
        assert fault.tests, fault
        for test in fault.tests:
            file, _, name = test.partition("::")
            source = (ROOT / file).read_text(encoding="utf-8")
            if not re.search(rf"^def {name}\(", source, re.MULTILINE):
                missing.append(test)
    assert missing == []


def test_every_test_of_a_fault_is_in_the_table() -> None:
    named = {test for fault in FAULTS for test in fault.tests}
    for path in sorted((ROOT / "tests" / "e2e").glob("test_faults_*.py")):
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert f"tests/e2e/{path.name}::{name}" in named
