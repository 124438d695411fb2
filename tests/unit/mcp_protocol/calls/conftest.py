"""Benches for the tests of the queue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.mcp_protocol.calls.bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench whose worker is let go at the end."""
    bench = Bench()
    yield bench
    bench.gate.set()


@pytest.fixture
def wide() -> Iterator[Bench]:
    """A bench with three workers, which are let go at the end."""
    bench = Bench(n_workers=3)
    yield bench
    bench.gate.set()
