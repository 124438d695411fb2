"""The official conformance suite over HTTP: `mcp_protocol` with the fixtures that it asks for, and the real server.

Each scenario is a subtest. `tests/conformance/expected_failures.yml` says what may fail and why; what it lists and
passes is a failure too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.e2e.node_environments import node_environment
from tests.e2e.server_process import ANSWER_S, EXIT_S, ROOT, ServerProcess

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
WITHOUT_FIXTURES = {
    "2025-11-25": (
        "server-initialize",
        "server-session-lifecycle",
        "logging-set-level",
        "ping",
        "tools-list",
        "server-sse-multiple-streams",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
    ),
    "2026-07-28": (
        "server-stateless",
        "tools-list",
        "server-sse-multiple-streams",
        "resources-list",
        "sep-2164-resource-not-found",
        "prompts-list",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
    ),
}
"""The scenarios that ask for nothing that the real server has not, but for the checks below."""
CHECKS_WITH_FIXTURES = {
    "server-stateless:sep-2575-http-server-no-independent-requests-on-stream",
    "server-stateless:sep-2575-server-no-log-without-loglevel",
}
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
        """The checks of a scenario that found something, as scenario:check, with the text of each."""
        return {
            f"{scenario}:{check['id']}": f"{check['status']}: {check.get('errorMessage') or check['description']}"
            for check in self.scenarios[scenario]
            if check["status"] in AT_FAULT
        }


Suite = Callable[[str, Sequence[str]], Outcome]
Conformance = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Runs the suite against the server at an address, with more options."""
    installed = node_environment("conformance")

    def run(url: str, options: Sequence[str]) -> Outcome:
        folder = tmp_path_factory.mktemp("conformance")
        ended = subprocess.run(
            [
                *(str(installed.node), str(installed.modules / SUITE), "server", "--url", url, *options),
                *("--expected-failures", str(EXPECTED_FAILURES), "--output-dir", str(folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SUITE_TIMEOUT_S,
        )
        return Outcome(ended.returncode, ended.stdout, folder)

    return run


@pytest.fixture(scope="module")
def conformance(suite: Suite) -> Iterator[Conformance]:
    """Runs the suite for a revision against a server with its fixtures, once for all tests."""
    outcomes: dict[str, Outcome] = {}
    with FixtureServer() as server:

        def run(revision: str) -> Outcome:
            if revision not in outcomes:
                outcomes[revision] = suite(server.url, RUNS[revision])
            return outcomes[revision]

        yield run


@pytest.fixture(scope="module")
def real_url() -> Iterator[str]:
    """Where the real server answers, without a model."""
    with ServerProcess(arguments=("--transport", "http", "--port", "0")) as server:
        end_s = time.monotonic() + ANSWER_S
        while (found := re.search(r"listening at (\S+)", server.stderr)) is None:
            assert server.process.poll() is None, server.stderr
            assert time.monotonic() < end_s, server.stderr
            time.sleep(0.01)
        yield found[1]


def expected_failures() -> set[str]:
    """The entries of the list."""
    return set(re.findall(r"^\s*- (\S+)$", EXPECTED_FAILURES.read_text(), re.MULTILINE))


@pytest.mark.parametrize("revision", RUNS)
def test_every_scenario_passes(revision: str, conformance: Conformance, subtests: pytest.Subtests) -> None:
    expected = expected_failures()
    outcome = conformance(revision)
    for scenario in outcome.scenarios:
        with subtests.test(scenario):
            found = {} if scenario in expected else outcome.at_fault(scenario)
            assert {check: text for check, text in found.items() if check not in expected} == {}
    assert len(outcome.scenarios) >= SCENARIOS[revision], outcome.printed
    assert outcome.status == 0, outcome.summary


def test_no_expected_failure_is_stale(conformance: Conformance) -> None:
    failed = set()
    for outcome in map(conformance, RUNS):
        for scenario in outcome.scenarios:
            found = outcome.at_fault(scenario)
            failed |= {*found, *([scenario] if found else ())}
    assert expected_failures() - failed == set()


@pytest.mark.parametrize("revision", WITHOUT_FIXTURES)
def test_real_server_passes_what_needs_no_fixtures(
    revision: str, suite: Suite, real_url: str, subtests: pytest.Subtests
) -> None:
    expected = expected_failures() | CHECKS_WITH_FIXTURES
    outcome = suite(real_url, RUNS[revision])
    for scenario in WITHOUT_FIXTURES[revision]:
        with subtests.test(scenario):
            found = outcome.at_fault(scenario)
            assert {check: text for check, text in found.items() if check not in expected} == {}
