from __future__ import annotations

from typing import Any

import pytest

from cli.terminal.call import as_line, as_text, check, find, paths_of, step_of
from cli.terminal.words import UsageError
from handlers.chat.chat import ChatArguments
from handlers.tool_table import TOOLS
from mcp_protocol.tools.toolbox import link_block, text_block

Json = dict[str, Any]

BY_NAME = {tool.name: tool for tool in TOOLS}
LISTED = [{"name": name} for name in BY_NAME]
REPLY: Json = {"content": [text_block('{"a":1}')], "structuredContent": {"text": '{"a":1}', "seed": None}}
DATA: Json = {"content": [text_block('{"loaded":false}')], "structuredContent": {"loaded": False}}
IMAGES: Json = {
    "content": [
        text_block('{"status":"success"}'),
        {"type": "image", "data": "", "mimeType": "image/png"},
        link_block("file:///a%20b/c%FF.png", "c.png", "image/png", 3, "a cat"),
    ]
}


def test_reply_is_printed_as_it_is_and_data_on_several_lines() -> None:
    assert as_text(REPLY, BY_NAME["chat_completion"]) == '{"a":1}'
    assert as_text(DATA, BY_NAME["get_model_status"]) == '{\n  "loaded": false\n}'


def test_files_are_printed_by_their_paths() -> None:
    assert paths_of(IMAGES) == ["/a b/c\udcff.png"]
    assert as_text(IMAGES, BY_NAME["generate_image"]).splitlines()[-1] == "/a b/c\udcff.png"


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (REPLY, '{"text":"{\\"a\\":1}","seed":null}'),
        (DATA, '{"loaded":false}'),
        (IMAGES, '{"status":"success"}'),
        ({"content": [text_block("plain")]}, '{"text":"plain"}'),
    ],
)
def test_json_is_one_line(result: Json, line: str) -> None:
    assert as_line(result) == line


@pytest.mark.parametrize(
    ("params", "is_text", "step"),
    [
        ({"progress": 0.001, "message": "loading weights"}, True, "loading weights"),
        ({"progress": 3, "total": 20, "message": " the"}, True, "3 of at most 20 tokens"),
        ({"progress": 3.001, "total": 20}, True, "3 of at most 20 tokens"),
        ({"progress": 3, "total": 5, "message": "3 of 5 images analyzed"}, False, "3 of 5 images analyzed"),
        ({"progress": 7, "total": 40}, False, "7 of at most 40 tokens"),
    ],
)
def test_steps_of_progress(params: Json, is_text: bool, step: str) -> None:
    assert step_of(params, is_text=is_text) == step


def test_tools_are_found_by_either_spelling() -> None:
    assert find("chat-completion", LISTED)["name"] == "chat_completion"
    with pytest.raises(UsageError, match=r"no tool chat_completions\. Did you mean chat_completion\?"):
        find("chat_completions", LISTED)
    with pytest.raises(UsageError, match="`tools` lists them"):
        find("zzz", LISTED)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "--messages is missing."),
        ({"messages": [{"role": "user", "content": "a"}], "max_tokens": 0}, "--max-tokens: expected int >= 1."),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "--messages[0].role: invalid enum value"),
    ],
)
def test_arguments_are_checked_before_anything_is_loaded(arguments: Json, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        check(arguments, ChatArguments, ["messages"])
    assert str(refused.value).startswith(text)
