from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest

from handlers.offered_tools import OfferedTools
from handlers.tool_table import TOOLS
from mcp_protocol.calls.scheduling_policy import SchedulingPolicy
from mcp_protocol.jsonrpc import Json, ProtocolError
from settings.tool_selection import FAMILIES
from tests.unit.handlers.tool_client import Client


def policy_of(client: Client, tool: str, arguments: Json) -> SchedulingPolicy:
    """The scheduling of a call."""
    row = client.toolbox.find(tool)
    assert row is not None
    return row.policy(arguments)


def listed(client: Client) -> list[Json]:
    """The entries of `tools/list`."""
    entries: list[Json] = msgspec.json.decode(msgspec.json.encode(client.toolbox.listing()))
    return entries


def test_all_tools_are_offered_by_default(client: Client) -> None:
    assert [tool["name"] for tool in listed(client)] == [tool.name for tool in TOOLS]


@pytest.mark.parametrize("family", FAMILIES)
def test_setting_picks_families(make_client: Callable[..., Client], family: str) -> None:
    names = [tool["name"] for tool in listed(make_client(VLLM_TOOLSETS=family))]
    assert names == [tool.name for tool in TOOLS if tool.name in FAMILIES[family]]


def test_every_tool_is_found_by_its_name(client: Client) -> None:
    assert [client.toolbox.find(tool.name) for tool in TOOLS] == list(TOOLS)


def test_tool_that_is_left_out_is_unknown_and_the_text_names_the_settings(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_TOOLSETS="slim")
    assert client.toolbox.find("chat_completion") is not None
    assert client.toolbox.find("release_gpu") is None
    assert client.toolbox.find("model_info") is None, "its row was imported with that of chat_completion"
    text = "Unknown tool: the settings VLLM_TOOLSETS and VLLM_TOOLS of this server leave release_gpu out"
    assert client.toolbox.why_unknown("release_gpu") == text
    with pytest.raises(ProtocolError, match="leave release_gpu out"):
        client.run("release_gpu")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("generate_imgae", "Unknown tool: generate_imgae. Did you mean generate_image?"),
        ("resize", "Unknown tool: resize"),
        ("x" * 10_000, "Unknown tool: " + "x" * 200),
    ],
)
def test_unknown_tool_is_named_with_the_nearest_on_offer(client: Client, name: str, text: str) -> None:
    assert client.toolbox.why_unknown(name) == text


def test_only_what_deletes_or_breaks_off_is_destructive() -> None:
    assert [tool.name for tool in TOOLS if tool.annotations.destructive] == ["delete_session", "cancel_batch"]
    assert not any(tool.annotations.read_only and tool.annotations.destructive for tool in TOOLS)


def test_what_costs_money_makes_files_or_changes_something_is_not_read_only(
    make_client: Callable[..., Client],
) -> None:
    changing = {tool.name for tool in TOOLS if not tool.annotations.read_only}
    assert changing == {
        "chat_completion", "delete_session", "offload_gpu", "release_gpu", "update_gpu_timeout", "generate_image",
        "batch_generate", "cancel_batch", "generate_video", "generate_speech", "process_image_to_video",
        "process_video_to_video",
        "generate_multimodal_response",
    }  # fmt: skip
    remote = listed(make_client(VLLM_BASE_URL="http://127.0.0.1:9/v1"))
    assert {tool["name"] for tool in remote if not tool["annotations"]["readOnlyHint"]} == {
        *changing,
        *("chat_completion_batch", "analyze_images_with_query", "check_image_relevance", "analyze_single_image"),
        "analyze_video",
    }


def test_what_makes_another_file_with_each_call_is_not_idempotent() -> None:
    idempotent = {tool.name for tool in TOOLS if tool.annotations.idempotent and not tool.annotations.read_only}
    assert idempotent == {"delete_session", "offload_gpu", "release_gpu", "update_gpu_timeout", "cancel_batch"}


def test_engine_is_made_only_when_asked_for(client: Client) -> None:
    from handlers.services import Services

    services = Services(client.services.settings)
    OfferedTools(services).listing()
    services.close()
    assert "engine" not in services.__dict__


def test_close_ends_the_engine(client: Client) -> None:
    client.services.close()
    assert client.engine.closed


@pytest.mark.parametrize(("more", "n_imports"), [({}, 1), ({"VLLM_BASE_URL": "http://127.0.0.1:9/v1"}, 0)])
def test_preload_imports_in_a_thread_and_loads_nothing(
    make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, more: dict[str, str], n_imports: int
) -> None:
    from handlers.model import preload

    imported = threading.Semaphore(0)
    monkeypatch.setattr(preload, "IMPORT_DELAY_S", 0)
    monkeypatch.setattr("engine.local.loader.import_ahead", lambda *settings: imported.release())
    client = make_client(VLLM_PRELOAD="import", **more)
    phases: list[str | None] = []
    client.services.preload(phases.append)
    assert phases == []
    for _ in range(n_imports):
        assert imported.acquire(timeout=60)
    assert not imported.acquire(timeout=0.1)


def test_preload_loads_and_leaves_the_phase(client: Client) -> None:
    phases: list[str | None] = []
    client.services.preload(phases.append)
    assert phases == ["importing vLLM", "loading weights", None]
    assert client.engine.n_loads == 1


def test_calls_that_only_tell_something_wait_for_nothing_and_those_that_change_the_engine_for_all() -> None:
    told = {tool.name for tool in TOOLS if tool.bypass_queue}
    assert {"model_info", "get_gpu_status", "get_model_status", "job_status", "list_jobs", "cancel_batch"} <= told
    assert {tool.name for tool in TOOLS if tool.exclusive} == {"offload_gpu", "release_gpu", "update_gpu_timeout"}
    assert all(tool.bypass_queue for tool in TOOLS if tool.is_job_control)


def test_turns_of_a_session_and_of_its_copy_come_one_after_another(client: Client) -> None:
    chat = policy_of(client, "chat_completion", {"session_id": "a", "fork_session_id": "b", "messages": []})
    assert chat.keys == {"a", "b"}
    assert policy_of(client, "get_session", {"session_id": "a"}).keys == {"a"}
    assert policy_of(client, "chat_completion", {"session_id": 5}).keys == frozenset()
