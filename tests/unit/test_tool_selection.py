"""Which tools the settings VLLM_TOOLSETS and VLLM_TOOLS select, and what the server says about it."""

from __future__ import annotations

import re

import pytest

from settings import Settings, read
from settings.tool_selection import ALL_TOOLS, FAMILIES, TOOLSETS, families_of

SLIM = ("chat_completion", "analyze_images_with_query", "generate_image", "job_status")


def selected(toolsets: str = "", tools: str = "") -> Settings:
    """The settings with these values of the two variables."""
    return read({"VLLM_TOOLSETS": toolsets, "VLLM_TOOLS": tools})


@pytest.mark.parametrize(
    ("toolsets", "tools", "offered"),
    [
        ("", "", ALL_TOOLS),
        ("all", "", ALL_TOOLS),
        ("slim", "", SLIM),
        ("slim,chat", "", (*FAMILIES["chat"], *SLIM[1:])),
        ("", "generate_image", ("generate_image",)),
        ("", "job_status chat_completion", ("chat_completion", "job_status")),
        ("", "*_image,list_*", ("list_sessions", "analyze_single_image", "list_available_models", "generate_image",
                                "list_images", "list_jobs", "list_presets", "list_available_providers")),
        ("", "-*", ALL_TOOLS),  # nothing would be left
        ("", "-*gpu*", tuple(name for name in ALL_TOOLS if "gpu" not in name)),
        ("", "-*,job_status", ("job_status",)),
        ("", "all,-job_status", tuple(name for name in ALL_TOOLS if name != "job_status")),
        ("slim", "-job_status,list_jobs", (*SLIM[:3], "list_jobs")),
        ("slim", "-list_jobs", SLIM),
        ("vision", "-*,get_model_status", ("get_model_status",)),
        ("", "list_jobs,-list_*", ALL_TOOLS),  # the last word that fits decides, so nothing would be left
        ("", "-list_*,list_jobs", tuple(n for n in ALL_TOOLS if not n.startswith("list_") or n == "list_jobs")),
    ],
)  # fmt: skip
def test_words_are_applied_from_left_to_right(toolsets: str, tools: str, offered: tuple[str, ...]) -> None:
    assert selected(toolsets, tools).server.offered_tools == offered


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ("chat_completion,generate_imgae", "names 'generate_imgae', but there is no such tool. Did you mean generate_"),
        ("-relase_gpu", "names 'relase_gpu', but there is no such tool. Did you mean release_gpu?"),
        ("chat_completion,slim", "VLLM_TOOLSETS=slim offers that set of tools."),
        ("chat_completion,zzz*", "The page docs/tools.md lists them."),
    ],
)
def test_name_that_no_tool_has_is_a_warning_with_the_nearest(tools: str, words: str) -> None:
    found = selected(tools=tools)
    (warning,) = found.warnings
    assert warning.startswith("VLLM_TOOLS names ")
    assert words in warning
    assert not found.problems


@pytest.mark.parametrize(("toolsets", "tools"), [("", "generate_imgae"), ("chat", "-*")])
def test_selection_without_any_tool_is_a_problem_that_every_call_can_return(toolsets: str, tools: str) -> None:
    found = selected(toolsets, tools)
    (problem,) = found.problems
    assert problem.startswith("The setting VLLM_TOOLS leaves no tool on offer.")
    assert ("Did you mean generate_image?" in problem) == ("imgae" in tools)
    assert found.server.offered_tools == ALL_TOOLS


@pytest.mark.parametrize("toolset", TOOLSETS)
def test_families_are_on_offer_by_the_tools_that_only_they_have(toolset: str) -> None:
    server = selected(toolset).server
    expected = {"chat", "vision", "images"} if toolset == "slim" else {toolset}
    assert {family for family in FAMILIES if server.offers(family)} == expected


def test_tool_of_two_families_offers_neither_alone() -> None:
    assert families_of("job_status") == ("images", "vision", "audio", "video")
    server = selected(tools="job_status").server
    assert not server.offers("images")
    assert server.offers("images", "vision", "audio", "video")


@pytest.mark.parametrize("toolsets", ["", *TOOLSETS])
def test_instructions_name_only_tools_on_offer_and_say_if_some_are_left_out(toolsets: str) -> None:
    server = selected(toolsets).server
    named = set(re.findall(r"\w+", server.instructions)).intersection(ALL_TOOLS)
    assert named <= set(server.offered_tools)
    assert ("Only some" in server.instructions) == bool(toolsets)
    assert "absolute path" in server.instructions
    assert len(server.instructions) < 1_000


def test_instructions_name_the_models_where_there_are_several() -> None:
    assert read({}).instructions == read({}).server.instructions
    several = read({"VLLM_MODELS": "small=/models/small eyes=org/eyes"})
    assert several.instructions.endswith(" The argument model selects a model: demo-vlm, small, eyes.")
    remote = read({"VLLM_MODELS": "small=a", "VLLM_BASE_URL": "http://127.0.0.1:1"})
    assert remote.instructions.endswith(" The argument model selects a model: small."), "its first has another name"
    many = read({"VLLM_MODELS": " ".join(f"model-{number}=x" for number in range(100))})
    assert many.instructions.endswith(", model-18 and others.")
