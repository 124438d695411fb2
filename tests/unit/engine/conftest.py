"""What tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.engine.session_samples import OPENED


@pytest.fixture(autouse=True)
def _no_file_stays_open() -> Iterator[None]:
    """Closes the files of the test's sessions."""
    yield
    while OPENED:
        OPENED.pop().close()
