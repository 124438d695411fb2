"""One member of a JSON file changes; every other character stays."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.clients.json_file import NotJson, parsed, with_member, without_comments

VALUE = {"command": "c", "args": ["caf\u00e9"]}
AS_TEXT = '"vllm": {\n  "command": "c",\n  "args": [\n    "caf\u00e9"\n  ]\n}'


def indented(text: str, margin: str, unit: str = "  ") -> str:
    return text.replace("  ", unit).replace("\n", "\n" + margin)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '{\n  "s": {\n    <4>\n  }\n}\n'),
        (" \n", '{\n  "s": {\n    <4>\n  }\n}\n'),
        ("{}", '{\n  "s": {\n    <4>\n  }\n}'),
        ('{\n  "s": {}\n}\n', '{\n  "s": {\n    <4>\n  }\n}\n'),
        ('{\n  "s": {\n  }\n}\n', '{\n  "s": {\n    <4>\n  }\n}\n'),
        ('{\n  "a": 1.50\n}', '{\n  "a": 1.50,\n  "s": {\n    <4>\n  }\n}'),
        ('{\n  "s": {\n    "x": {"y": 1}\n  },\n"b":1E5}', '{\n  "s": {\n    "x": {"y": 1},\n    <4>\n  },\n"b":1E5}'),
        ('{\n  "s": {\n    "vllm": {"o": "\\u00e9"},\n    "x": 1\n  }\n}', '{\n  "s": {\n    <4>,\n    "x": 1\n  }\n}'),
        ('{"s": {"x": 1}}', '{"s": {"x": 1, "vllm": {"command": "c", "args": ["caf\u00e9"]}}}'),
        ('{"a": "\\"{s\\""}', '{"a": "\\"{s\\"", "s": {"vllm": {"command": "c", "args": ["caf\u00e9"]}}}'),
        ('\ufeff{\n  "a": 1\n}', '\ufeff{\n  "a": 1,\n  "s": {\n    <4>\n  }\n}'),
    ],
)  # fmt: skip
def test_all_else_keeps_its_characters(before: str, after: str) -> None:
    changed = with_member(before, "s", "vllm", VALUE)
    assert changed == after.replace("<4>", indented(AS_TEXT, "    "))
    assert parsed(changed)[0]["s"]["vllm"] == VALUE


@pytest.mark.parametrize(("unit", "newline"), [("\t", "\n"), ("    ", "\r\n"), (" ", "\n")])
def test_indentation_and_line_ends_are_the_files(unit: str, newline: str) -> None:
    before = json.dumps({"a": [1], "s": {"x": {"y": 1}}}, indent=unit).replace("\n", newline)
    after = json.dumps({"a": [1], "s": {"x": {"y": 1}, "vllm": VALUE}}, indent=unit, ensure_ascii=False)
    assert with_member(before, "s", "vllm", VALUE) == after.replace("\n", newline)


def test_last_of_two_equal_keys_is_the_one_that_counts() -> None:
    changed = with_member('{"s": {"x": 1}, "s": {"y": 2}}', "s", "vllm", VALUE)
    assert changed.startswith('{"s": {"x": 1}, "s": {"y": 2, "vllm"')


KEYS = st.text(string.ascii_letters + '"\\{}[],:/*\u00e9 ', max_size=4)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | KEYS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=8)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
LAYOUTS = st.sampled_from([None, 0, 1, 4, "\t"])


@given(OBJECTS, st.none() | OBJECTS, LAYOUTS, st.booleans())
def test_only_that_member_changes(
    others: dict[str, Any], servers: dict[str, Any] | None, indent: Any, ascii: bool
) -> None:
    before = others if servers is None else {**others, "servers": servers}
    text = json.dumps(before, indent=indent, ensure_ascii=ascii)
    changed = with_member(text, "servers", "vllm", VALUE)
    after = {**before, "servers": {**(servers or {}), "vllm": VALUE}}
    assert json.loads(changed) == after
    assert json.dumps(json.loads(changed)) == json.dumps(after), "the order of the members too"
    assert with_member(changed, "servers", "vllm", VALUE) == changed, "a second time changes nothing"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{"a": "// no /* comment */ ,}"}', True),
        ('{"a": 1, // one\n}', False),
        ('/* head */ {"a": [1, 2,], "b": {}, /* end */ }', False),
        ("", True),
    ],
)
def test_comments_are_read_and_noticed(text: str, plain: bool) -> None:
    value, is_plain = parsed(text)
    assert is_plain == plain
    assert isinstance(value, dict)


def test_comment_inside_a_string_stays() -> None:
    assert json.loads(without_comments('{"u": "http://h/,}", // x\n "e": "\\"//"}')) == {"u": "http://h/,}", "e": '"//'}


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", "null", "{'a': 1}", '{"a" 1}', "[" * 100_000, '{"a": 1}}'])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(NotJson):
        parsed(text)
