"""The gpu family over a fake engine and a fake driver."""

from __future__ import annotations

import base64
import io
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from engine.errors import EngineUnavailable
from tests.unit.engine.fake_nvml import GB, Card, FakeNvml
from tests.unit.fake_engine import FakeEngine
from tests.unit.handlers.tool_client import Client, make_image


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have a GPU."""
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(driver=False))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """A GPU on which this server's process holds 8 of 9 GB in use."""
    card = Card(used=9 * GB, processes=[(os.getpid(), 8 * GB)])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(card))
    return card


def engine_of(client: Client, **options: Any) -> FakeEngine:
    """Gives the client another engine."""
    client.services.engine = client.engine = FakeEngine(**options)
    return client.engine


# get_gpu_status


def test_status_without_a_gpu_has_the_processes_memory_and_nulls(client: Client) -> None:
    status = client.result("get_gpu_status")
    assert (status.state, status.model_location, status.backend, status.gpu_available) == (
        "unloaded",
        None,
        "cpu",
        False,
    )
    assert (status.gpu_name, status.gpu_memory_allocated_gb, status.gpu_memory_reserved_gb) == (None, None, None)
    assert (status.gpus, status.idle_time, status.idle_timeout) == ([], None, 600)
    assert status.process_memory_gb > 0
    assert status.host_memory_free_gb > 0
    assert client.engine.n_loads == 0


def test_status_with_a_gpu_is_the_drivers(client: Client, card: Card) -> None:
    engine_of(client, can_offload=True).load()
    status = client.result("get_gpu_status")
    assert (status.state, status.model_location, status.backend) == ("ready", "GPU", "cuda")
    assert (status.gpu_available, status.gpu_name) == (True, card.name)
    assert (status.gpu_memory_allocated_gb, status.gpu_memory_reserved_gb) == (8.0, 9.0)
    (shown,) = status.gpus
    assert (shown.total_gb, shown.used_gb, shown.free_gb, shown.server_gb) == (24.0, 9.0, 15.0, 8.0)
    assert (shown.utilization_percent, shown.temperature_c) == (12, 45)


def test_named_gpu_is_the_one_that_holds_the_model(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Card(name="first"), Card(name="second", processes=[(os.getpid(), GB)])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*cards))
    assert client.result("get_gpu_status").gpu_name == "second"


def test_backend_is_not_guessed_before_a_load_where_there_is_a_gpu(client: Client, card: Card) -> None:
    status = client.result("get_gpu_status")
    assert (status.backend, status.offload_supported) == (None, None)


def test_idle_time_is_that_of_the_model(client: Client) -> None:
    client.chat()
    assert client.engine.last_used_s is not None
    client.engine.last_used_s -= 30
    client.result("get_gpu_status")
    assert 30 <= client.result("get_gpu_status").idle_time < 35


# offload_gpu


def test_offload_moves_the_model_and_tells_what_became_free(client: Client, card: Card) -> None:
    engine = engine_of(client, can_offload=True)
    engine.load()
    offload = engine.offload

    def frees() -> None:
        offload()
        card.used, card.processes = 2 * GB, [(os.getpid(), GB)]

    engine.offload = frees  # type: ignore[method-assign]
    result = client.result("offload_gpu")
    assert (result.status, result.freed_gb) == ("offloaded", 7.0)
    assert (result.before.gpu_memory_allocated_gb, result.after.gpu_memory_allocated_gb) == (8.0, 1.0)
    assert client.result("get_gpu_status").model_location == "CPU"


def test_offloading_twice_says_so_and_the_next_chat_brings_the_model_back(client: Client, card: Card) -> None:
    engine_of(client, can_offload=True).load()
    client.result("offload_gpu")
    again = client.result("offload_gpu")
    assert (again.status, again.message) == ("offloaded", "The model was already offloaded.")
    assert client.chat().text == "reply"
    assert client.result("get_gpu_status").state == "ready"


def test_offload_without_a_model_does_nothing_where_there_is_a_gpu(client: Client, card: Card) -> None:
    result = client.result("offload_gpu")
    assert (result.status, result.freed_gb) == ("unloaded", 0.0)


@pytest.mark.parametrize("loaded", [True, False])
def test_offload_without_a_gpu_fails_and_names_release(client: Client, loaded: bool) -> None:
    if loaded:
        client.chat()
    error = client.error("offload_gpu")
    assert "not supported on this" in error
    assert "release_gpu" in error


# release_gpu


def test_release_drops_the_model_and_measures(client: Client) -> None:
    client.chat()
    result = client.result("release_gpu")
    assert result.status == "released"
    assert result.freed_gb is not None
    assert result.before.process_memory_gb > 0
    assert result.after.process_memory_gb > 0
    assert client.engine.released
    assert client.result("get_gpu_status").state == "unloaded"


def test_release_of_an_offloaded_model(client: Client, card: Card) -> None:
    engine_of(client, can_offload=True).load()
    client.result("offload_gpu")
    assert client.result("release_gpu").status == "released"
    assert client.result("get_gpu_status").state == "unloaded"


def test_release_without_a_model_frees_nothing_and_says_so(client: Client) -> None:
    result = client.result("release_gpu")
    assert (result.status, result.freed_gb) == ("released", 0.0)
    assert result.message == "No model was loaded, so nothing was released."


def test_release_forgets_a_failed_load(client: Client) -> None:
    client.engine.load_error = EngineUnavailable("no")
    client.error("chat_completion", {"messages": [{"role": "user", "content": "Hi"}]})
    assert client.result("get_gpu_status").state == "failed"
    client.result("release_gpu")
    assert client.result("get_gpu_status").state == "unloaded"


def test_freed_memory_is_not_guessed_where_the_driver_hides_it(client: Client, card: Card) -> None:
    engine_of(client, can_offload=True).load()
    card.processes = card.total = None
    assert client.result("release_gpu").freed_gb is None


@pytest.mark.parametrize("by_itself", [True, False])
def test_kept_images_go_with_the_model(client: Client, by_itself: bool) -> None:
    client.engine.load()
    text = base64.b64encode(make_image("red")).decode()
    image = client.services.images.read_base64(text, None).image
    assert client.services.images.read_base64(text, None).image is image
    if by_itself:
        client.services.give_back_memory(lambda phase: None)
    else:
        client.result("release_gpu")
    assert client.services.images.read_base64(text, None).image is not image


def test_release_and_the_end_leave_no_child_of_the_sandbox(client: Client) -> None:
    del client.services.decoder  # the shared one; this client makes its own
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "GIF")
    text = base64.b64encode(buffer.getvalue()).decode()
    for give_back in (lambda: client.run("release_gpu"), client.services.close):
        client.services.images.read_base64(text, None)
        client.services.images.forget()
        assert len(client.services.sandbox.process_ids()) == 1
        give_back()
        assert client.services.sandbox.process_ids() == []


# The idle timeout


def test_timeout_is_updated_at_once(client: Client) -> None:
    client.chat()
    before = client.services.idle_due_s()
    result = client.result("update_gpu_timeout", {"timeout_seconds": 30})
    assert (result.status, result.timeout) == ("updated", 30)
    after = client.services.idle_due_s()
    assert before is not None
    assert after is not None
    assert before - after == pytest.approx(570)
    assert client.result("get_gpu_status").idle_timeout == 30
    assert "until release_gpu" in client.result("update_gpu_timeout", {"timeout_seconds": 0}).message
    assert client.services.idle_due_s() is None


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (-1, "int >= 0"),
        (2_592_001, "int <= 2592000"),
        (1e999, "int"),
        (float("nan"), "int"),
        (True, "int, got bool"),
        ("a minute", "int, got str"),
        (None, "int, got null"),
    ],
)
def test_timeout_out_of_range_is_refused(client: Client, timeout: Any, expected: str) -> None:
    error = client.error("update_gpu_timeout", {"timeout_seconds": timeout})
    assert error.startswith(f"arguments.timeout_seconds: expected {expected}")
    assert client.result("get_gpu_status").idle_timeout == 600


def test_timeout_is_required_and_near_names_are_suggested(client: Client) -> None:
    assert "timeout_seconds" in client.error("update_gpu_timeout")
    assert "Did you mean timeout_seconds?" in client.error("update_gpu_timeout", {"timeout": 5})


def test_setting_is_the_first_timeout(make_client: Callable[..., Client]) -> None:
    client = make_client(GPU_IDLE_TIMEOUT="5")
    client.chat()
    due_s = client.services.idle_due_s()
    assert due_s is not None
    assert 4 < due_s - time.monotonic() <= 5
    client.services.give_back_memory(lambda phase: None)
    assert not client.engine.released
    assert client.engine.last_used_s is not None
    client.engine.last_used_s -= 5
    client.services.give_back_memory(lambda phase: None)
    assert client.engine.released
    assert client.services.idle_due_s() is None


def test_services_without_an_engine_are_never_due(client: Client) -> None:
    from handlers.services import Services

    services = Services(client.services.settings)
    assert services.idle_due_s() is None
    assert "engine" not in services.__dict__


# list_available_models


def test_models_are_listed_by_group(client: Client) -> None:
    result = client.result("list_available_models")
    assert result.status == "success"
    assert [model.name for model in result.models.configured] == ["demo-vlm"]
    assert "OpenGVLab/InternVL3-1B" in [model.name for model in result.models.suggested]
    assert result.total_count == 1 + len(result.models.bundled + result.models.cached + result.models.suggested)
    assert not result.models.configured[0].loaded
    client.chat()
    assert client.result("list_available_models").models.configured[0].loaded
