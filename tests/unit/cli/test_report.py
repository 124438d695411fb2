"""The table as a whole."""

from __future__ import annotations

import pytest

from cli.check import findings, report
from cli.check.findings import State, ok, problem, row, summary
from engine.errors import EngineUnavailable
from handlers.services import Services
from tests.unit.cli.conftest import MakeServices
from tests.unit.fake_engine import FakeEngine

LOCAL = {"VLLM_TOOLSETS": "chat"}


def test_each_thing_has_a_row(make_services: MakeServices) -> None:
    engine = FakeEngine()
    found = list(report.findings(make_services(engine, **LOCAL), None))
    subjects = [finding.subject for finding in found]
    assert len(set(subjects)) == len(subjects)
    assert {"settings", "python", "vllm", "gpu", "model", "answer", "images", "sessions"} <= set(subjects)
    assert engine.n_loads == 0
    for finding in found:
        assert finding.text.endswith((".", ")")) or finding.subject == "python", finding


def test_load_has_the_model_answer(make_services: MakeServices) -> None:
    engine = FakeEngine()
    found = {
        finding.subject: finding for finding in report.findings(make_services(engine, **LOCAL), lambda phase: None)
    }
    assert found["answer"].state is State.OK
    assert engine.n_loads == 1


def test_check_that_breaks_is_a_problem_and_the_others_go_on(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(services: Services) -> list[findings.Finding]:
        raise RuntimeError("secret")

    def refused(services: Services) -> list[findings.Finding]:
        raise EngineUnavailable("Set X.")

    monkeypatch.setattr(report, "checks", lambda tell: (("one", broken), ("two", refused), ("three", lambda _: [])))
    one, two = report.findings(make_services(), None)
    assert (one.subject, one.state) == ("one", State.PROBLEM)
    assert "Internal error" in one.text
    assert "secret" not in one.text
    assert two == problem("two", "Not checked. Set X.")


def test_row_is_one_line_unless_the_terminal_is_narrow() -> None:
    finding = ok("gpu", "word " * 30)
    assert "\n" not in row(finding, None)
    lines = row(finding, 80).split("\n")
    assert len(lines) == 3
    assert lines[0].startswith(f"{'gpu':18} ok      word")
    assert all(line.startswith(" " * 27 + "word") and len(line) <= 80 for line in lines[1:])
    assert "\n" not in row(finding, 30)


@pytest.mark.parametrize(
    ("found", "loaded", "words"),
    [
        ([ok("a", ".")], False, "--check=load"),
        ([ok("a", ".")], True, "Everything that is configured works."),
        ([problem("a", ".")], True, "1 problem: "),
        ([problem("a", "."), problem("b", ".")], False, "2 problems: "),
    ],
)
def test_summary(found: list[findings.Finding], loaded: bool, words: str) -> None:
    assert words in summary(found, loaded=loaded)
