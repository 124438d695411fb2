"""Faults that are injected into the real process, and what the server must do; the tests of each are run here.

Each row is a fault from the table in `tests/e2e/faults.py`, with pytest's result for its tests: all passed, or the
first that did not. A fault that cannot be injected on this machine is skipped, with the reason.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from benchmarks.contenders import ROOT
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from tests.e2e.faults import FAULTS, Fault

TITLE = "Faults"
QUICK = ("test_faults_pipes.py", "test_faults_clock.py")


def measure(run: Run) -> Findings:
    """Runs the tests of all faults; of those that take seconds when only the measurement is tried."""
    faults = [fault for fault in FAULTS if not run.quick or fault.is_tested_in(QUICK)]
    outcomes = _outcomes(sorted({test for fault in faults for test in fault.tests}))
    rows: list[list[Cell]] = []
    n_withstood = n_skipped = 0
    for fault in faults:
        word = _word(fault, outcomes)
        n_withstood += word == "withstood"
        n_skipped += word.startswith("skipped")
        rows.append([fault.injected, fault.holds, len(fault.tests), word])
    n_failed = len(faults) - n_withstood - n_skipped
    required = Requirement(f"Faults that are not withstood, of {len(faults)}", n_failed, Bound.AT_MOST, 0, unit="")
    return Findings([Table("what is injected", ["fault", "what must hold", "tests", "found"], rows)], [required])


def _word(fault: Fault, outcomes: dict[str, str]) -> str:
    words = [outcomes.get(test, "not run") for test in fault.tests]
    bad = [word for word in words if word != "passed" and not word.startswith("skipped")]
    if bad:
        return bad[0]
    return "withstood" if "passed" in words else words[0]


def _outcomes(tests: list[str]) -> dict[str, str]:
    """What pytest says of each test, the worst of its cases first."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [
            sys.executable,
            "-m",
            "pytest",
            *tests,
            "-q",
            f"--junitxml={report.name}",
            "-o",
            "junit_family=xunit1",
        ]
        subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        cases = list(xml.etree.ElementTree.parse(report.name).getroot().iter("testcase"))
    found: dict[str, list[str]] = {}
    for case in cases:
        name = str(case.get("name")).partition("[")[0]
        found.setdefault(f"{case.get('file')}::{name}", []).append(_outcome(case))
    order = {"failed": 0, "skipped": 2}
    return {test: min(words, key=lambda word: order.get(word.split(":")[0], 1)) for test, words in found.items()}


def _outcome(case: xml.etree.ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    skipped = case.find("skipped")
    return "passed" if skipped is None else f"skipped: {skipped.get('message')}"
