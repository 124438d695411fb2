from __future__ import annotations

from collections.abc import Callable

import pytest

from handlers.catalog import TOOLS, toolbox
from tests.unit.handlers.conftest import Desk

FAMILIES = sorted({tool.family for tool in TOOLS})


def test_all_families_are_offered_by_default(desk: Desk) -> None:
    assert [tool["name"] for tool in desk.toolbox.listing()] == [tool.name for tool in TOOLS]


@pytest.mark.parametrize("family", FAMILIES)
def test_setting_picks_families(make_desk: Callable[..., Desk], family: str) -> None:
    names = [tool["name"] for tool in make_desk(VLLM_TOOLSETS=family).toolbox.listing()]
    assert names == [tool.name for tool in TOOLS if tool.is_in({family})]


def test_only_what_deletes_or_breaks_off_is_destructive() -> None:
    assert [tool.name for tool in TOOLS if tool.destructive] == ["delete_session", "cancel_batch"]
    assert not any(tool.read_only and tool.destructive for tool in TOOLS)


def test_what_costs_money_makes_files_or_changes_something_is_not_read_only(make_desk: Callable[..., Desk]) -> None:
    changing = {tool.name for tool in TOOLS if not tool.read_only}
    assert changing == {
        "chat_completion", "delete_session", "offload_gpu", "release_gpu", "update_gpu_timeout", "generate_image",
        "batch_generate", "cancel_batch", "process_image_to_video", "process_video_to_video",
        "generate_multimodal_response",
    }  # fmt: skip
    remote = make_desk(VLLM_BASE_URL="http://127.0.0.1:9/v1").toolbox.listing()
    assert {tool["name"] for tool in remote if not tool["annotations"]["readOnlyHint"]} == {
        *changing,
        *("chat_completion_batch", "analyze_images_with_query", "check_image_relevance", "analyze_single_image"),
    }


def test_what_makes_another_file_with_each_call_is_not_idempotent() -> None:
    idempotent = {tool.name for tool in TOOLS if tool.idempotent and not tool.read_only}
    assert idempotent == {"delete_session", "offload_gpu", "release_gpu", "update_gpu_timeout", "cancel_batch"}


def test_engine_is_made_only_when_asked_for(desk: Desk) -> None:
    from handlers.services import Services

    services = Services(desk.services.settings)
    toolbox(services).listing()
    services.close()
    assert "engine" not in services.__dict__


def test_close_ends_the_engine(desk: Desk) -> None:
    desk.services.close()
    assert desk.engine.closed


def test_preload_loads_and_leaves_the_phase(desk: Desk) -> None:
    phases: list[str | None] = []
    desk.services.preload(phases.append)
    assert phases == ["importing vLLM", "loading weights", None]
    assert desk.engine.n_loads == 1


def test_calls_that_only_tell_something_wait_for_nothing_and_those_that_change_the_engine_for_all() -> None:
    told = {tool.name for tool in TOOLS if tool.at_once}
    assert {"model_info", "get_gpu_status", "get_model_status", "job_status", "list_jobs", "cancel_batch"} <= told
    assert {tool.name for tool in TOOLS if tool.exclusive} == {"offload_gpu", "release_gpu", "update_gpu_timeout"}
    assert all(tool.at_once for tool in TOOLS if tool.about_jobs)


def test_turns_of_a_session_and_of_its_copy_come_one_after_another(desk: Desk) -> None:
    chat = desk.toolbox.turn("chat_completion", {"session_id": "a", "fork_session_id": "b", "messages": []})
    assert chat.keys == {"a", "b"}
    assert desk.toolbox.turn("get_session", {"session_id": "a"}).keys == {"a"}
    assert desk.toolbox.turn("chat_completion", {"session_id": 5}).keys == frozenset()
