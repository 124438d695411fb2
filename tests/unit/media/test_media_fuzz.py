"""A short run of the fuzzer of media; `python -m tests.fuzz.media_files` is the long one."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.media_files import corpus, fuzz
from tests.fuzz.media_mutations import mutated


@pytest.mark.slow
def test_changed_files_are_decoded_or_refused_within_memory_and_time() -> None:
    report = fuzz(count=1_500, seed=20)
    assert report.findings == []
    assert sum(report.counts.values()) == 1_500
    # A fuzzer whose files are all refused at once, or none, would look at nothing.
    assert min(report.counts["decoded"], report.counts["refused"]) > 150


def test_a_changed_file_follows_from_its_number_alone() -> None:
    for name, data in corpus().items():
        first, second = (mutated(data, random.Random(f"{name}/7")) for _ in range(2))
        assert first == second
