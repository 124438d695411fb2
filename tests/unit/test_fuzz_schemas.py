"""A short run of the fuzzer of schemas; `python -m tests.fuzz.schemas` is the long one."""

from __future__ import annotations

import pytest

from tests.fuzz.schemas import fuzz


@pytest.mark.slow
def test_no_schema_breaks_a_promise() -> None:
    pytest.importorskip("llguidance")
    report = fuzz(800, seed=7)
    assert report.findings == []
    assert report.n_schemas == 800
    assert report.became["taken, answer complete"] > 200
