"""A short soak; `scripts/bench soak --minutes 60` is the long one, with its figures in benchmarks/RESULTS.md."""

from __future__ import annotations

import os

import pytest

from benchmarks.soak import soak

SECONDS = float(os.environ.get("SOAK_S", "30"))
SETTLING_MIB = 96.0
"""What the first rounds may still add: the allocator and vLLM's own memories settle in the first minutes."""


@pytest.mark.timeout(600)
def test_every_request_has_one_answer_and_nothing_is_left_behind(model: dict[str, str]) -> None:
    found = soak(model["VLLM_MODEL_NAME"], SECONDS)
    tally = found.tally
    assert tally.wrong == []
    assert (tally.unanswered, tally.repeated) == ([], [])
    assert tally.n_broken == tally.n_without_id
    assert tally.sent.total() == tally.answered.total() + tally.cancelled.total()
    assert found.tools_left_out == []
    assert found.change("n_descriptors") <= 0
    assert found.change("n_threads") <= 0
    assert found.change("n_children") <= 0
    assert found.growth_mib < SETTLING_MIB, [round(reading.resident_mib) for reading in found.readings]
