"""The official conformance suite against `mcp_protocol` over HTTP, with the fixtures that the suite asks for.

Each scenario is a subtest. `tests/conformance/expected_failures.yml` says what may fail and why; what it lists and
passes is a failure too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.e2e.node_environments import node_environment
from tests.e2e.server_process import EXIT_S, ROOT

Json = dict[str, Any]
SUITE = Path("@modelcontextprotocol", "conformance", "dist", "index.js")
SUITE_TIMEOUT_S = 240
EXPECTED_FAILURES = ROOT / "tests" / "conformance" / "expected_failures.yml"
RUNS = {
    "2025-03-26": ("--suite", "all", "--spec-version", "2025-03-26"),
    "2025-06-18": ("--suite", "all", "--spec-version", "2025-06-18"),
    "2025-11-25": ("--requirements", "2025-11-25"),
    "2026-07-28": ("--requirements", "2026-07-28"),
}
"""What the suite is asked for; it has sets of requirements for two revisions, and scenarios alone for the older."""
SCENARIOS = {"2025-03-26": 1, "2025-06-18": 27, "2025-11-25": 30, "2026-07-28": 37}
"""How many scenarios each run has at least: a suite that finds none to run would pass."""
AT_FAULT = ("FAILURE", "WARNING")


class FixtureServer:
    """The process of `tests.conformance.fixture_server`, at `url` while it lasts."""

    url: str

    def __enter__(self) -> FixtureServer:
        command = [sys.executable, "-m", "tests.conformance.fixture_server"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait(EXIT_S)
        self._process.stdout.close()


class Outcome:
    """How one run of the suite ended: its exit status, what it printed, and the checks of each scenario."""

    def __init__(self, status: int, printed: str, folder: Path) -> None:
        self.status = status
        self.printed = printed
        self.scenarios: dict[str, list[Json]] = {}
        for results in sorted(folder.glob("server-*/checks.json")):
            found = re.fullmatch(r"server-(.+?)-\d{4}-\d\d-\d\dT[-\d]+Z", results.parent.name)
            assert found is not None, results
            self.scenarios[found[1]] = json.loads(results.read_text())

    @property
    def summary(self) -> str:
        """The end of what was printed: a line for each scenario, and what was expected or is stale."""
        return self.printed[self.printed.find("=== SUMMARY") :]

    def at_fault(self, scenario: str) -> dict[str, str]:
        """The checks of a scenario that found something, with the text of each."""
        return {
            check["id"]: f"{check['status']} {check['id']}: {check.get('errorMessage') or check['description']}"
            for check in self.scenarios[scenario]
            if check["status"] in AT_FAULT
        }


Conformance = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conformance]:
    """Runs the suite for a revision, once for all tests, against one server."""
    suite = node_environment("conformance")
    outcomes: dict[str, Outcome] = {}
    with FixtureServer() as server:

        def run(revision: str) -> Outcome:
            if revision not in outcomes:
                folder = tmp_path_factory.mktemp(revision)
                options = ["--url", server.url, *RUNS[revision], "--expected-failures", str(EXPECTED_FAILURES)]
                ended = subprocess.run(
                    [str(suite.node), str(suite.modules / SUITE), "server", *options, "--output-dir", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=SUITE_TIMEOUT_S,
                )
                outcomes[revision] = Outcome(ended.returncode, ended.stdout, folder)
            return outcomes[revision]

        yield run


def expected_failures() -> set[str]:
    """The entries of the list."""
    return set(re.findall(r"^\s*- (\S+)$", EXPECTED_FAILURES.read_text(), re.MULTILINE))


@pytest.mark.parametrize("revision", RUNS)
def test_every_scenario_passes(revision: str, conformance: Conformance, subtests: pytest.Subtests) -> None:
    expected = expected_failures()
    outcome = conformance(revision)
    for scenario in outcome.scenarios:
        with subtests.test(scenario):
            found = outcome.at_fault(scenario)
            unexpected = [text for check, text in found.items() if not {scenario, f"{scenario}:{check}"} & expected]
            assert not unexpected, "\n".join(unexpected)
    assert len(outcome.scenarios) >= SCENARIOS[revision], outcome.printed
    assert outcome.status == 0, outcome.summary


def test_no_expected_failure_is_stale(conformance: Conformance) -> None:
    failed = set()
    for outcome in map(conformance, RUNS):
        for scenario in outcome.scenarios:
            found = outcome.at_fault(scenario)
            failed |= {f"{scenario}:{check}" for check in found} | ({scenario} if found else set())
    assert expected_failures() - failed == set()
