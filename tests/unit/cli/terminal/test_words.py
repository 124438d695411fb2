"""Tables of words and the arguments that they mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.terminal.words import UsageError, arguments_of
from handlers.tool_table import TOOLS
from mcp_protocol.tools import schema

Json = dict[str, Any]

SCHEMAS = {tool.name: schema.of_arguments(tool.arguments) for tool in TOOLS}
FILES = {
    "-": "from stdin\n",
    "tools.json": '[{"type": "function"}]\n',
    "format.json": '{"type": "json_object"}',
    "mention.txt": "@alice said hi\n",
    "prompts.txt": "a cat\n\na dog\n",
    "prompts.json": '["a cat", "a dog"]',
}
HELLO = {"role": "user", "content": "Hello"}


def read(path: str) -> str:
    if path not in FILES:
        raise UsageError(f"{path} cannot be read: No such file or directory.")
    return FILES[path]


def given(tool: str, *words: str) -> Json:
    return arguments_of(words, SCHEMAS[tool]["properties"], read)


def refusal(tool: str, *words: str) -> str:
    with pytest.raises(UsageError) as refused:
        given(tool, *words)
    return str(refused.value)


@pytest.mark.parametrize(
    ("tool", "words", "arguments"),
    [
        ("model_info", [], {}),
        ("chat_completion", ["--max-tokens", "20"], {"max_tokens": 20}),
        ("chat_completion", ["--max_tokens", "20"], {"max_tokens": 20}),
        ("chat_completion", ["--max-tokens=20"], {"max_tokens": 20}),
        ("chat_completion", ["--temp", "0.5"], {"temperature": 0.5}),
        ("chat_completion", ["--top_k", "-1"], {"top_k": -1}),
        ("chat_completion", ["--ignore-eos"], {"ignore_eos": True}),
        ("chat_completion", ["--no-ignore-eos"], {"ignore_eos": False}),
        ("chat_completion", ["--ignore-eos", "false", "--seed", "1"], {"ignore_eos": False, "seed": 1}),
        ("chat_completion", ["--ignore-eos=yes"], {"ignore_eos": True}),
        ("chat_completion", ["--stop", "a", "b"], {"stop": ["a", "b"]}),
        ("chat_completion", ["--stop", "a"], {"stop": "a"}),
        ("chat_completion", ["--stop", '["a", "b"]'], {"stop": ["a", "b"]}),
        ("chat_completion", ["--stop=--", "--stop=a b"], {"stop": ["--", "a b"]}),
        ("chat_completion", ["--messages", "Hello"], {"messages": [HELLO]}),
        ("chat_completion", ["--messages", "@-"], {"messages": [{"role": "user", "content": "from stdin"}]}),
        ("chat_completion", ["--messages", "@mention.txt"],
         {"messages": [{"role": "user", "content": "@alice said hi"}]}),
        ("chat_completion", ["--messages", '{"role":"user","content":"Hello"}'], {"messages": [HELLO]}),
        ("chat_completion", ["--messages", '[{"role":"user","content":"Hello"}]'], {"messages": [HELLO]}),
        ("chat_completion", ["--messages", "Hello", "--messages", "Hello"], {"messages": [HELLO, HELLO]}),
        ("chat_completion", ["--tools", "@tools.json"], {"tools": [{"type": "function"}]}),
        ("chat_completion", ["--response-format", "@format.json"], {"response_format": {"type": "json_object"}}),
        ("chat_completion", ["--response-format", '{"type":"text"}'], {"response_format": {"type": "text"}}),
        ("chat_completion", ["--tool-choice", "auto"], {"tool_choice": "auto"}),
        ("chat_completion_batch", ["--conversations", "Hello"], {"conversations": [[HELLO]]}),
        ("chat_completion_batch", ["--conversations", "[[]]"], {"conversations": [[]]}),
        ("analyze_images_with_query", ["--image", "a.png"], {"image_paths": ["a.png"]}),
        ("analyze_images_with_query", ["--image", "a.png", "b.png", "--query", "q"],
         {"image_paths": ["a.png", "b.png"], "query": "q"}),
        ("analyze_images_with_query", ["--image-paths", "[1].png"], {"image_paths": ["[1].png"]}),
        ("analyze_images_with_query", ["--metadata", '{"at": 1}', "here"], {"metadata": [{"at": 1}, "here"]}),
        ("analyze_single_image", ["--query", "@-"], {"query": "from stdin"}),
        ("analyze_single_image", ["--query", "@home"], {"query": "@home"}),
        ("analyze_single_image", ["--query", "-1"], {"query": "-1"}),
        ("analyze_single_image", ["--metadata", "@format.json"], {"metadata": {"type": "json_object"}}),
        ("batch_generate", ["--seeds", "1", "2"], {"seeds": [1, 2]}),
        ("batch_generate", ["--prompts", "@prompts.txt"], {"prompts": ["a cat", "a dog"]}),
        ("batch_generate", ["--prompts", "@prompts.json"], {"prompts": ["a cat", "a dog"]}),
        ("generate_image", ["--preview", "none"], {"preview": "none"}),
    ],
)  # fmt: skip
def test_words_become_arguments(tool: str, words: list[str], arguments: Json) -> None:
    assert given(tool, *words) == arguments


@pytest.mark.parametrize(
    ("tool", "words", "text"),
    [
        ("chat_completion", ["--max-token-count", "1"], "no option --max-token-count. Did you mean --max-tokens?"),
        ("generate_image", ["--zzz", "1"], "There is no option --zzz. There are --negative-prompt, --width"),
        ("chat_completion", ["--t", "1"], "--t may mean --temperature or --top-p or --top-k or --timeout-s or --tools"),
        ("chat_completion", ["Hello"], "'Hello' is no option"),
        ("chat_completion", ["-x"], "'-x' is no option"),
        ("chat_completion", ["--"], "'--' is no option"),
        ("chat_completion", ["--max-tokens", "many"], "--max-tokens expects a whole number, not 'many'"),
        ("chat_completion", ["--max-tokens", "1.5"], "--max-tokens expects a whole number"),
        ("chat_completion", ["--temperature", "hot"], "--temperature expects a number, not 'hot'"),
        ("chat_completion", ["--temperature", "nan"], "--temperature expects a number"),
        ("chat_completion", ["--ignore-eos=maybe"], "--ignore-eos expects true or false"),
        ("chat_completion", ["--no-ignore-eos=1"], "--no-ignore-eos takes no value"),
        ("chat_completion", ["--no-seed"], "no option --no-seed"),
        ("chat_completion", ["--max-tokens"], "--max-tokens needs a value."),
        ("chat_completion", ["--stop", "--seed", "1"], "given as --stop=VALUE"),
        ("chat_completion", ["--seed", "1", "--seed", "2"], "--seed is given twice"),
        ("chat_completion", ["--seed", "1", "2"], "'2' is no option"),
        ("chat_completion", ["--response-format", "json"], "--response-format expects JSON or @file, not 'json'"),
        ("chat_completion", ["--response-format", "{"], "--response-format is no valid JSON"),
        ("chat_completion", ["--messages", "[{]"], "--messages is no valid JSON"),
        ("chat_completion", ["--messages", "@nowhere"], "nowhere cannot be read: No such file"),
        ("generate_image", ["--preview", "big"], "--preview is one of full, none, small, not 'big'"),
        ("batch_generate", ["--seeds", "1", "x"], "--seeds expects a whole number, not 'x'"),
    ],
)
def test_wrong_words_are_named(tool: str, words: list[str], text: str) -> None:
    assert text in refusal(tool, *words)


@pytest.mark.parametrize("tool", SCHEMAS)
def test_every_argument_of_every_tool_can_be_given(tool: str) -> None:
    """With an example that its schema allows, written as JSON where it is no plain value."""
    for name, argument in SCHEMAS[tool]["properties"].items():
        example = example_of(argument)
        word = example if isinstance(example, str) else json.dumps(example)
        assert given(tool, f"--{name}={word}") == {name: example}


def example_of(argument: Json) -> Any:
    argument = argument["anyOf"][0] if "anyOf" in argument else argument
    if "enum" in argument:
        return argument["enum"][0]
    examples = {"string": "text", "integer": 3, "number": 0.5, "boolean": True, "object": {}, "array": []}
    return examples[argument["type"]]
