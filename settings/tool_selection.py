"""Which tools the server offers: the families of tools, the preset `slim`, and what the settings select of them.

The rows of the tools are in `handlers`; this module knows only their names, so that settings can be checked early.
"""

import re
from collections.abc import Collection, Iterator

JOB_TOOLS = ("cancel_batch", "job_status", "list_jobs")
"""Tools of every family with jobs; lists and the documentation have them among the images."""
FAMILIES: dict[str, tuple[str, ...]] = {
    "chat": (
        "chat_completion",
        "chat_completion_batch",
        "model_info",
        "list_sessions",
        "get_session",
        "delete_session",
    ),
    "vision": (
        "analyze_images_with_query",
        "check_image_relevance",
        "analyze_single_image",
        "analyze_video",
        "get_model_status",
        *JOB_TOOLS,
    ),
    "audio": ("transcribe_audio", "generate_speech", *JOB_TOOLS),
    "gpu": ("get_gpu_status", "offload_gpu", "release_gpu", "update_gpu_timeout", "list_available_models"),
    "images": (
        "generate_image",
        "batch_generate",
        "list_images",
        *JOB_TOOLS,
        "get_model_info",
        "gpu_status",
        "list_presets",
        "server_health",
        "estimate_generation",
    ),
    "video": (
        "generate_video",
        "process_image_to_video",
        "process_video_to_video",
        *JOB_TOOLS,
        "list_available_models",
    ),
    "providers": ("generate_multimodal_response", "list_available_providers", "validate_multimodal_request"),
}
"""The names of all tools by family, in the order of `tools/list`. A tool may be in several families."""
SLIM = "slim"
TOOLSETS: dict[str, tuple[str, ...]] = {
    **FAMILIES,
    SLIM: ("chat_completion", "analyze_images_with_query", "generate_image", "job_status"),
}
"""The values of VLLM_TOOLSETS: the families, and a small set for hosts that should spend little context on tools."""
ALL_TOOLS = tuple(
    dict.fromkeys(
        name for family, names in FAMILIES.items() for name in names if family == "images" or name not in JOB_TOOLS
    )
)
APP_TOOLS = ("view_media", "read_media")
"""Tools that only the view calls; they are offered with every tool that has the view."""

_INSTRUCTIONS = (
    "chat_completion replies to messages with text and images; pass a session_id for a conversation of several turns.",
    "analyze_images_with_query analyzes up to 64 images at once.",
    "analyze_video answers questions about a video and finds when something is seen in it.",
    "Pass images as absolute path, URL or base64.",
    "Give arrays, objects, numbers and booleans as JSON, not as text.",
    "The first call loads the model: if the reply says that it is still loading, call again.",
    "release_gpu frees the model's memory.",
    "generate_image generates images: with status 'running', call job_status for the result.",
    "transcribe_audio writes down speech.",
    "generate_speech speaks a text.",
    "generate_multimodal_response uses hosted models; list_available_providers lists them.",
)
_FEWER_TOOLS = "Only some of this server's tools are offered; descriptions may name others."


def selected(toolsets: Collection[str], tools: Collection[str]) -> tuple[str, ...]:
    """The names of the tools to offer, in the order of `tools/list`.

    Arguments:
        toolsets: names of `TOOLSETS`, empty for none.
        tools: names and patterns in their order; one that begins with - removes tools, any other adds some. Without
            toolsets, the first decides what they are applied to: all tools if it removes, otherwise none.
    """
    if toolsets:
        offered = {name for toolset in toolsets for name in TOOLSETS.get(toolset, ())}
    else:
        offered = set() if tools and not next(iter(tools)).startswith("-") else set(ALL_TOOLS)
    for word in tools:
        named = _named(word.removeprefix("-"))
        offered = offered - named if word.startswith("-") else offered | named
    return tuple(name for name in ALL_TOOLS if name in offered)


def families_of(name: str) -> tuple[str, ...]:
    """The families of a tool; the documentation shows it with the first."""
    families = (family for family, names in FAMILIES.items() if name in names)
    return tuple(sorted(families, key=lambda family: name in JOB_TOOLS and family != "images"))


def unknown_words(tools: Collection[str]) -> Iterator[str]:
    """A sentence for each name or pattern in VLLM_TOOLS that fits no tool."""
    for word in tools:
        name = word.removeprefix("-")
        if not _named(name):
            yield f"VLLM_TOOLS names {name[:100]!r}, but there is no such tool. {_advice(name)}"


def instructions(offered: Collection[str]) -> str:
    """The server's instructions for the host's model. A sentence that names a tool is left out without that tool."""
    left_out = set(ALL_TOOLS).difference(offered)
    sentences = [text for text in _INSTRUCTIONS if left_out.isdisjoint(re.findall(r"\w+", text))]
    return " ".join([*sentences, *([_FEWER_TOOLS] if left_out else [])])


def nearest_tool(name: str, names: Collection[str] = ALL_TOOLS) -> str | None:
    """The tool whose name is most like this one, if any is."""
    import difflib  # takes a few ms

    return next(iter(difflib.get_close_matches(name[:60], names, 1)), None)


def _named(pattern: str) -> set[str]:
    """The tools whose names fit a pattern, in which * stands for any characters; the word all means every tool."""
    from fnmatch import fnmatchcase  # imported only where VLLM_TOOLS is set

    return {name for name in ALL_TOOLS if pattern == "all" or fnmatchcase(name, pattern)}


def _advice(name: str) -> str:
    if name in TOOLSETS:
        return f"VLLM_TOOLSETS={name} offers that set of tools."
    nearest = nearest_tool(name)
    return f"Did you mean {nearest}?" if nearest is not None else "The page docs/tools.md lists them."
