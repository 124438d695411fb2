"""The chat and vision suites once more, with the model on a vLLM server in place of this process's engine.

Each of their tests that asks the shared server is run here again with another shared server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.e2e import test_chat, test_response_format, test_vision
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_chat import session_id  # noqa: F401 (a fixture of those tests)

LOCAL_ONLY = {
    "test_model_information_after_a_load": "a server does not tell its model's data type and whether it sees",
    "test_model_status_before_and_after_a_load": "the device is this machine's",
    "test_every_number_comes_to_an_end": "a server elsewhere gets the schema as it is, without bounds of ours",
}
"""Tests that say nothing of a remote engine, and why."""


@pytest.fixture
def demo_server(remote_server: ServerProcess) -> ServerProcess:
    """Stands for the shared server with an engine of its own."""
    return remote_server


def _shared(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, test in vars(module).items():
        if name.startswith("test_") and name not in LOCAL_ONLY and "demo_server" in inspect.signature(test).parameters:
            yield name.replace("test_", f"{module.__name__.rpartition('.')[2]}_", 1), test


globals().update(test for module in (test_chat, test_vision, test_response_format) for test in _shared(module))
